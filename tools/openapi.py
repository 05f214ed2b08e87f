"""The OpenAPI 3.1 document of the HTTP face, made from its table of operations and the models."""

from types import ModuleType

from consumer import VERSION
from schemas.errors import ErrorCode
from schemas.http import DEADLINE_HEADER, IDEMPOTENCY_HEADER
from schemas.request import MAX_BODY_BYTES
from tools import openapi_errors
from tools import openapi_examples as examples
from tools import openapi_parts as parts
from tools.openapi_operations import OPERATIONS, TAGS, Operation
from tools.openapi_parts import Node

INTRODUCTION = f"""\
Text to image on your own GPU. This face is a client of the queue, so that bound, deadline and \
settlement are the same for every caller.

Errors are `application/problem+json` with a `code`; `retryable` tells whether the same request may \
be sent again, unchanged; under `/v1` they have OpenAI's shape. A method that a page does not know is answered 405 `method_not_allowed`. \
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
    if operation.takes:
        written["requestBody"] = _body(operation.takes)
    answers = {str(status): answer for status, answer in operation.answers.items()}
    written["responses"] = {**answers, **_shape(operation).refusals(*operation.codes)}
    return written


def _shape(operation: Operation) -> ModuleType:
    """Return what tells of the errors of an operation."""
    return openapi_errors if operation.as_openai else parts


def _body(schema: str) -> Node:
    shown = {"least": examples.REQUEST, "more": _MORE[schema]}
    return {
        "required": True,
        "description": f"At most {MAX_BODY_BYTES // 1024} KiB.",
        "content": {"application/json": parts.json_content(schema, shown)},
    }


_MORE = {"GenerationRequest": examples.FULL_REQUEST, "ImagesRequest": examples.IMAGES_REQUEST}
"""An example of each body."""


def _groups(shape: ModuleType) -> set[tuple[ErrorCode, ...]]:
    return {
        group
        for each in OPERATIONS
        if _shape(each) is shape
        for group in shape.groups_of(each.codes)
    }


def _components() -> Node:
    return {
        "schemas": parts.schemas(),
        "parameters": parts.parameters(),
        "headers": parts.headers(),
        "responses": {
            name: component
            for shape in (parts, openapi_errors)
            for name, component in shape.refusal_components(_groups(shape)).items()
        },
        "links": parts.links(),
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "The value of `IMAGE_GEN_API_TOKEN`, where one is set.",
            }
        },
    }
