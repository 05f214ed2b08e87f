"""The page of documentation: HTML made from the OpenAPI document, without scripts or other hosts."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

Node = dict[str, Any]

STYLE = """\
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: .9em/1.4 ui-monospace, monospace; }
pre { padding: .7em 1em; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid color-mix(in srgb, currentcolor 25%, Canvas); }
table { border-collapse: collapse; width: 100%; margin: .5em 0 1em; }
th, td { text-align: left; vertical-align: top; padding: .25em .8em .25em 0; \
border-bottom: 1px solid color-mix(in srgb, currentcolor 20%, Canvas); }
h3 { margin-top: 2.2em; }
:target { outline: 2px solid Highlight; outline-offset: .2em; }
"""


def page(document: Node) -> str:
    """Return the page. Each operation has its id as an anchor, each error code its name."""
    info = document["info"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}: HTTP API</title>",
            f"<style>\n{STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}: HTTP API</h1>",
            *_prose(info["description"]),
            '<p>As data: <a href="/openapi.json">/openapi.json</a>.</p>',
            "<p>Every answer has "
            + " and ".join(_code(name) for name in sorted(_always(document)))
            + ".</p>",
            *_contents(document),
            *_operations(document),
            *_errors(document),
            *_schemas(document),
            "</body></html>",
            "",
        ]
    )


# ---------------------------------------------------------------- text


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield f"<p>{_inline(paragraph)}</p>"


def _inline(text: str) -> str:
    """Return text, escaped, with what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _block(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{escape(anchor)}">{text}</a>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], *, anchors: bool = False) -> str:
    """Return a table of cells that are HTML already; with `anchors` a row's first cell is its id."""
    lines = [
        "<table><thead><tr>",
        *(f"<th>{name}</th>" for name in head),
        "</tr></thead><tbody>",
    ]
    for first, *others in rows:
        mark = f' id="{escape(first)}"' if anchors else ""
        cells = [_code(first) if anchors else first, *others]
        lines.append(f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return "".join([*lines, "</tbody></table>"])


# ---------------------------------------------------------------- operations


def _each(document: Node) -> Iterator[tuple[str, str, Node]]:
    """Yield path, method and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _contents(document: Node) -> Iterator[str]:
    yield "<h2>Contents</h2>"
    yield _table(
        ("call", "what it does"),
        (
            (
                _link(operation["operationId"], _code(f"{method} {path}")),
                _inline(operation["summary"]),
            )
            for path, method, operation in _each(document)
        ),
    )
    yield f"<p>{_link('errors', 'Errors')}, {_link('schemas', 'schemas')}.</p>"


def _operations(document: Node) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'].capitalize())}</h2>"
        yield f"<p>{_inline(tag['description'])}</p>"
        for path, method, operation in _each(document):
            if tag["name"] in operation["tags"]:
                yield from _operation(document, path, method, operation)


def _operation(document: Node, path: str, method: str, operation: Node) -> Iterator[str]:
    yield f'<h3 id="{escape(operation["operationId"])}">{_code(f"{method} {path}")}</h3>'
    yield f"<p>{_inline(operation['summary'])}</p>"
    yield from _prose(operation["description"]) if "description" in operation else ()
    yield _block(_curl(document, path, method, operation))
    parameters = [_resolve(document, each) for each in operation.get("parameters", ())]
    if parameters:
        yield _table(("parameter", "in", "values", "meaning"), map(_parameter, parameters))
    yield _table(
        ("status", "what it tells", "content", "headers"), _answers(document, operation)
    )


def _parameter(parameter: Node) -> tuple[str, ...]:
    return (
        _code(parameter["name"]),
        escape(parameter["in"]),
        _code(_values(parameter["schema"])),
        _inline(parameter["description"]),
    )


def _answers(document: Node, operation: Node) -> Iterator[tuple[str, ...]]:
    always = _always(document)
    for status, given in operation["responses"].items():
        answer = _resolve(document, given)
        yield (
            escape(status),
            _linked(document, _inline(answer["description"])),
            "<br>".join(_code(media_type) for media_type in answer.get("content", ())),
            ", ".join(_code(name) for name in answer.get("headers", ()) if name not in always),
        )


def _always(document: Node) -> frozenset[str]:
    """Return the headers that every answer has, which no row needs to repeat."""
    return frozenset.intersection(
        *(
            frozenset(_resolve(document, answer).get("headers", ()))
            for _, _, operation in _each(document)
            for answer in operation["responses"].values()
        )
    )


def _linked(document: Node, html: str) -> str:
    """Return HTML in which each error code leads to its meaning."""
    codes = document["x-error-codes"]
    return re.sub(
        r"<code>(\w+)</code>",
        lambda found: _link(found[1], found[0]) if found[1] in codes else found[0],
        html,
    )


def _curl(document: Node, path: str, method: str, operation: Node) -> str:
    """Return a command that works, with the examples of the document."""
    url = document["servers"][0]["url"] + path
    for given in operation.get("parameters", ()):
        parameter = _resolve(document, given)
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", parameter["example"])
    words = ["curl", "-sS", *(("-X", method) if method == "DELETE" else ()), url]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        body = json.dumps(next(iter(content["examples"].values()))["value"])
        words += ["-H", "Content-Type: application/json", "-d", body]
    if any(_is_picture(document, answer) for answer in operation["responses"].values()):
        words += ["-H", "Accept: image/*", "-o", "picture"]
    return shlex.join(words)


def _is_picture(document: Node, given: Node) -> bool:
    return any(
        name.startswith("image/") for name in _resolve(document, given).get("content", ())
    )


# ---------------------------------------------------------------- errors and schemas


def _errors(document: Node) -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2>'
    yield _table(
        ("code", "status", "may be sent again", "meaning"),
        (
            (
                code,
                str(row["status"]),
                "yes" if row["retryable"] else "no",
                _inline(row["meaning"]),
            )
            for code, row in document["x-error-codes"].items()
        ),
        anchors=True,
    )


def _schemas(document: Node) -> Iterator[str]:
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        yield from _prose(schema["description"]) if "description" in schema else ()
        if "properties" in schema:
            yield _table(("field", "values", "meaning"), _fields(schema))


def _fields(schema: Node) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        needed = " (required)" if name in required else ""
        meaning = _inline(field.get("description", "")) + needed
        yield _code(name), _code(_values(field)), meaning


def _values(schema: Node) -> str:
    """Return the values that a schema takes, in short."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_values(schema.get('items', {}))}"
    return f"{schema.get('type', 'any')}{_range(schema)}"


def _range(schema: Node) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}, at most {high}"
    if low is not None and high is not None:
        return f" {low} to {high}"
    return "" if low is None else f" from {low}"


def _resolve(document: Node, node: Node) -> Node:
    """Return what a reference within the document leads to; anything else as it is."""
    if "$ref" not in node:
        return node
    found = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found
