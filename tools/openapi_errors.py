"""The errors in OpenAI's shape, as the OpenAPI document has them."""

from schemas.errors import ERRORS, ErrorCode
from schemas.openai import status_of, type_of
from tools import openapi_examples as examples
from tools.openapi_parts import Node, by_status, reference, with_headers

_HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def refusals(*codes: ErrorCode) -> Node:
    """Return the answers with these codes: by status, references to components."""
    return {
        str(status): reference("responses", _name(group))
        for status, group in sorted(by_status(codes, status_of).items())
    }


def refusal_components(groups: set[tuple[ErrorCode, ...]]) -> Node:
    """Return the component of each group of codes that share a status."""
    return {_name(group): _refusal(group) for group in sorted(groups)}


def groups_of(codes: tuple[ErrorCode, ...]) -> set[tuple[ErrorCode, ...]]:
    """Return the groups of codes that share a status."""
    return set(by_status(codes, status_of).values())


def _name(group: tuple[ErrorCode, ...]) -> str:
    return "-".join(("openai", *(code.value for code in group)))


def _refusal(group: tuple[ErrorCode, ...]) -> Node:
    names = _HEADERS_BY_STATUS.get(status_of(group[0]), ())
    inner = {
        "properties": {
            "code": {"enum": [code.value for code in group]},
            "type": {"const": type_of(group[0])},
        }
    }
    narrowed = {"$ref": "#/components/schemas/OpenAIError", "properties": {"error": inner}}
    shown = {code.value: {"value": examples.openai_error(code)} for code in group}
    return {
        "description": " ".join(f"`{code.value}`: {ERRORS[code].meaning}" for code in group),
        "headers": with_headers("X-Should-Retry", *names),
        "content": {"application/json": {"schema": narrowed, "examples": shown}},
    }
