"""The OpenAPI 3.1 document of the HTTP face, made from its table of operations and the models."""

from consumer import VERSION
from schemas.http import DEADLINE_HEADER, IDEMPOTENCY_HEADER
from schemas.request import MAX_BODY_BYTES
from tools import openapi_examples as examples
from tools import openapi_parts as parts
from tools.openapi_operations import OPERATIONS, TAGS, Operation
from tools.openapi_parts import Node

INTRODUCTION = f"""\
Text to image on your own GPU. This face is a client of the queue, so that bound, deadline and \
settlement are the same for every caller.

Errors are `application/problem+json` with a `code`; `retryable` tells whether the same request may \
be sent again, unchanged. A method that a page does not know is answered 405 `method_not_allowed`. \
`{IDEMPOTENCY_HEADER}` makes a request safe to repeat, `{DEADLINE_HEADER}` says how long it is wanted.

Where a token is set (`IMAGE_GEN_API_TOKEN`), pictures and jobs ask for it; probes and documents \
never do. A `Host` that is not this machine's, and a write that another site starts, are answered \
403 `forbidden`; there is no CORS.
"""


def document() -> Node:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "imagegen",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:8034", "description": "As it is installed."}],
        "security": [{}, {"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": _paths(),
        "components": _components(),
        "x-error-codes": parts.error_table(),
    }


def with_token(given: Node) -> Node:
    """Return the document of a service that has a token: its job API cannot do without."""
    return {**given, "security": [{"bearer": []}]}


def _paths() -> Node:
    paths: Node = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Node:
    written: Node = {
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        written["description"] = operation.description
    if operation.open:
        written["security"] = []
    if operation.parameters:
        written["parameters"] = [
            parts.reference("parameters", name) for name in operation.parameters
        ]
    if operation.asks_for_picture:
        written["requestBody"] = _body()
    answers = {str(status): answer for status, answer in operation.answers.items()}
    written["responses"] = {**answers, **parts.refusals(*operation.codes)}
    return written


def _body() -> Node:
    shown = {"least": examples.REQUEST, "more": examples.FULL_REQUEST}
    return {
        "required": True,
        "description": f"At most {MAX_BODY_BYTES // 1024} KiB.",
        "content": {"application/json": parts.json_content("GenerationRequest", shown)},
    }


def _components() -> Node:
    groups = {group for each in OPERATIONS for group in parts.groups_of(each.codes)}
    return {
        "schemas": parts.schemas(),
        "parameters": parts.parameters(),
        "headers": parts.headers(),
        "responses": parts.refusal_components(groups),
        "links": parts.links(),
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "The value of `IMAGE_GEN_API_TOKEN`, where one is set.",
            }
        },
    }
