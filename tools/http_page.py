"""The tables of docs/http-api.md, made from the table of operations and the models."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from schemas.errors import ERRORS, ErrorCode
from tools import openapi_parts as parts
from tools.openapi_operations import OPERATIONS, Operation

PAGE = Path(__file__).resolve().parent.parent / "docs" / "http-api.md"
_SECTION = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def markdown() -> str:
    """Return docs/http-api.md: its own words, with every table made anew."""
    return _SECTION.sub(
        lambda found: f"{found[1]}{_lines(TABLES[found[2]]())}{found[3]}",
        PAGE.read_text(encoding="utf-8"),
    )


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in ("", *rows, ""))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _calls() -> Iterator[str]:
    yield from _head("call", "what it does", "answers")
    for operation in OPERATIONS:
        answers = ", ".join(str(status) for status in operation.answers)
        yield _row(f"`{operation.method.upper()} {operation.path}`", operation.summary, answers)


def _parameters() -> Iterator[str]:
    yield from _head("parameter", "in", "of", "meaning")
    for name, parameter in parts.parameters().items():
        users = [operation for operation in OPERATIONS if name in operation.parameters]
        yield _row(
            f"`{parameter['name']}`",
            parameter["in"],
            ", ".join(f"`{user.method.upper()} {user.path}`" for user in users),
            f"{parameter['description']} {_values(parameter['schema'])}".strip(),
        )


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"One of {', '.join(f'`{value}`' for value in schema['enum'])}."
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}; {schema['default']} if not given."
    if "exclusiveMinimum" in schema:
        return f"Above {schema['exclusiveMinimum']}, at most {schema['maximum']}."
    return ""


def _headers() -> Iterator[str]:
    yield from _head("header", "on", "meaning")
    for name, header in parts.headers().items():
        users = [operation for operation in OPERATIONS if _sends(operation, name)]
        everywhere = len(users) == len(OPERATIONS)
        of = ", ".join(f"`{user.method.upper()} {user.path}`" for user in users)
        fixed = header.get("schema", {}).get("const")
        meaning = f"always `{fixed}`" if fixed else header["description"]
        yield _row(f"`{name}`", "every answer" if everywhere else of or _ERRORS[name], meaning)


_ERRORS = {
    "Retry-After": "503, 409 `not_ready`, and 429 under `/v1`",
    "X-Should-Retry": "errors under `/v1`",
    "WWW-Authenticate": "401",
    "Allow": "405",
}


def _sends(operation: Operation, name: str) -> bool:
    return any(name in answer["headers"] for answer in operation.answers.values())


def _statuses() -> Iterator[str]:
    """Yield which codes each call may answer with, by status."""
    yield from _head("call", "errors")
    for operation in OPERATIONS:
        if operation.codes:
            yield _row(f"`{operation.method.upper()} {operation.path}`", _told(operation))


def _told(operation: Operation) -> str:
    by_status: dict[int, list[str]] = {}
    for code in ErrorCode:
        if code in operation.codes:
            by_status.setdefault(operation.status_of(code), []).append(f"`{code.value}`")
    return "; ".join(f"{status} {', '.join(by_status[status])}" for status in sorted(by_status))


def _errors() -> Iterator[str]:
    yield from _head("code", "status", "may be sent again", "meaning")
    for code, spec in ERRORS.items():
        again = "yes" if spec.retryable else "no"
        yield _row(f"`{code.value}`", str(spec.http_status), again, spec.meaning)


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "calls": _calls,
    "parameters": _parameters,
    "headers": _headers,
    "statuses": _statuses,
    "errors": _errors,
}
"""By the name that stands in the page's `made:` comments."""
