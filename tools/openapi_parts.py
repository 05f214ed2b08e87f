"""What the paths of the OpenAPI document share: parameters, headers, answers, links, schemas."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from schemas.base import JOB_ID_PATTERN
from schemas.errors import ERRORS, ErrorCode
from schemas.http import (
    DEADLINE_HEADER,
    IDEMPOTENCY_HEADER,
    MAX_DEADLINE_S,
    Accepted,
    ProblemDetails,
)
from schemas.openai import (
    ImagesRequest,
    ImagesResponse,
    Model,
    ModelList,
    OpenAIError,
)
from schemas.reply import FIELD_HEADER_PREFIX, GenerationResult, ResultFacts
from schemas.request import GenerationRequest
from schemas.status import CURSOR_PATTERN, DEFAULT_PAGE, MAX_PAGE, JobList, JobState, JobStatus
from tools import openapi_examples as examples

Node = dict[str, Any]
"""A part of the document."""

MODELS = (
    Accepted,
    GenerationRequest,
    GenerationResult,
    ImagesRequest,
    ImagesResponse,
    JobList,
    JobStatus,
    Model,
    ModelList,
    OpenAIError,
    ProblemDetails,
    ResultFacts,
)
PROBLEM_TYPE = "application/problem+json"
PROMPT_PATTERN = (
    r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]*"
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]"
    r"[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]*$"
)
"""No control characters but tab and line ends, and something beside white space."""


def reference(kind: str, name: str) -> Node:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def json_content(schema: str, shown: Mapping[str, Any]) -> Node:
    """Return JSON content of a schema with its examples by name."""
    return {
        "schema": reference("schemas", schema),
        "examples": {name: {"value": value} for name, value in shown.items()},
    }


# ---------------------------------------------------------------- schemas

_JOB_STATUS = reference("schemas", "JobStatus")


def schemas() -> Node:
    """Return the models and their parts, and the pages of the probes."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in MODELS],
        ref_template="#/components/schemas/{model}",
    )
    made: Node = definitions["$defs"]
    for name in ("GenerationRequest", "ImagesRequest"):
        made[name]["properties"]["prompt"]["pattern"] = PROMPT_PATTERN
    for model in made.values():
        for part in model.get("properties", {}).values():
            part.pop("title", None)  # the property's name once more
    return dict(sorted({**made, "StatusEvent": _status_event(), **_probe_schemas()}.items()))


def _status_event() -> Node:
    payload = {"contentMediaType": "application/json", "contentSchema": _JOB_STATUS}
    return {
        "type": "object",
        "required": ["id", "event", "data"],
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "event": {"enum": ["step", *get_args(JobState)], "description": "What is new."},
            "data": {"type": "string", **payload, "description": "A JobStatus as JSON."},
        },
        "description": "One event of a stream of server-sent events.",
    }


def _probe_schemas() -> Node:
    text = {"type": "string"}
    verdict = {"enum": ["pass", "warn", "fail"]}
    return {
        "Index": {
            "type": "object",
            "required": ["service", "pages"],
            "properties": {
                "service": {"const": "imagegen"},
                "pages": {"type": "object", "additionalProperties": text},
            },
            "description": "The pages by their path.",
        },
        "Probe": {
            "type": "object",
            "required": ["status"],
            "properties": {"status": verdict, "state": text, "note": text},
            "description": "The verdict of a probe, and a sentence where there is more to say.",
        },
        "Health": {
            "type": "object",
            "required": ["status", "state", "note"],
            "properties": {"status": verdict, "state": text, "note": text},
            "description": "The verdict with model, GPU, broker and work in hand.",
        },
    }


# ---------------------------------------------------------------- parameters


def parameters() -> Node:
    """Return the parameters by the name of their component."""
    job_id = {"type": "string", "pattern": JOB_ID_PATTERN}
    return {
        "JobId": {
            **_parameter("path", "job_id", job_id, "Names the job.", examples.JOB_ID),
            "required": True,
        },
        "Model": {
            **_parameter(
                "path", "model", {"type": "string"}, "Names it.", examples.MODEL["id"]
            ),
            "required": True,
        },
        "IdempotencyKey": _parameter(
            "header",
            IDEMPOTENCY_HEADER,
            job_id,
            "Becomes the job id. The same key with the same body is the same job: nothing is "
            "drawn twice. Without it the id is a random UUID.",
            examples.JOB_ID,
        ),
        "DeadlineSeconds": _parameter(
            "header",
            DEADLINE_HEADER,
            {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DEADLINE_S},
            "How long the picture is wanted, in seconds; the service's own setting without it.",
            60,
        ),
        "IfNoneMatch": _parameter(
            "header",
            "If-None-Match",
            {"type": "string"},
            "The ETag of a picture that the caller has.",
            f'"{examples.SHA256}"',
        ),
        **_list_parameters(),
    }


def _list_parameters() -> Node:
    states = list(get_args(JobState))
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}
    return {
        "Limit": _parameter("query", "limit", limit, "The most jobs of the answer.", 20),
        "Before": _parameter(
            "query",
            "before",
            {"type": "string", "pattern": CURSOR_PATTERN},
            "`next` of the list that this one continues.",
            f"1795342530123.{examples.JOB_ID}",
        ),
        "Status": _parameter(
            "query",
            "status",
            {"enum": states, "type": "string"},
            "Only jobs of this state.",
            "succeeded",
        ),
    }


def _parameter(
    place: str, name: str, schema: Node, description: str, example: object = None
) -> Node:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": place, "schema": schema, "description": description, **shown}


# ---------------------------------------------------------------- headers

SHIELDS = ("X-Content-Type-Options", "Cross-Origin-Resource-Policy")
"""On every answer."""


def headers() -> Node:
    """Return the headers of answers by name."""
    text = {"type": "string"}
    seconds = {"type": "integer", "minimum": 0}
    return {
        **{
            name: {"required": True, "schema": {"const": value, "type": "string"}}
            for name, value in zip(SHIELDS, ("nosniff", "same-origin"), strict=True)
        },
        "Retry-After": _header(seconds, "Seconds after which to try again.", 2),
        "X-Should-Retry": _header(
            {"enum": ["true", "false"], "type": "string"},
            "Whether the same request may be sent again: OpenAI's clients do as it says.",
            "true",
        ),
        "WWW-Authenticate": _header(text, "The scheme: Bearer.", "Bearer"),
        "Allow": _header(text, "The methods that the page knows.", "GET, HEAD"),
        "Location": _header(
            {"type": "string", "format": "uri-reference"},
            "Where to ask for the job.",
            examples.PATHS["status_url"],
        ),
        "ETag": _header(
            {"type": "string", "pattern": '^"[0-9a-f]{64}"$'},
            "SHA-256 of the picture.",
            f'"{examples.SHA256}"',
        ),
        "Cache-Control": _header(
            text, "A picture never changes.", "private, max-age=31536000, immutable"
        ),
        **_fact_headers(),
    }


def _header(schema: Node, description: str, example: object) -> Node:
    return {
        "required": True,
        "schema": schema,
        "description": description,
        "example": example,
    }


def fact_header(field: str) -> str:
    """Return the name of the header with a fact of a picture: X-Imagegen-Job-Id for job_id."""
    return f"{FIELD_HEADER_PREFIX}{field.replace('_', '-')}".title()


FACT_HEADERS = {
    fact_header(name): name for name in ResultFacts.model_fields if name != "prompt"
}
"""The header of each fact; a prompt may hold what a header may not."""


def _fact_headers() -> Node:
    properties = ResultFacts.model_json_schema(ref_template="#/components/schemas/{model}")
    made: Node = {}
    for name, field in FACT_HEADERS.items():
        schema = dict(properties["properties"][field])
        description = schema.pop("description", f"`{field}` of the result.")
        if field == "timings":
            made[name] = {
                "description": "`timings` of the result, as JSON.",
                "content": {"application/json": {"schema": reference("schemas", "Timings")}},
            }
        else:
            made[name] = {"description": description, "schema": schema}
    return made


def with_headers(*names: str) -> Node:
    """Return references to the headers of an answer, those of every answer included."""
    return {name: reference("headers", name) for name in (*names, *SHIELDS)}


# ---------------------------------------------------------------- answers that are errors

_HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    503: ("Retry-After",),
}


def refusals(*codes: ErrorCode) -> Node:
    """Return the answers with these codes: by status, references to components."""
    return {
        str(status): reference("responses", _name(group))
        for status, group in sorted(by_status(codes, _status_of).items())
    }


def refusal_components(groups: set[tuple[ErrorCode, ...]]) -> Node:
    """Return the component of each group of codes that share a status."""
    return {_name(group): _refusal(group) for group in sorted(groups)}


def groups_of(codes: tuple[ErrorCode, ...]) -> set[tuple[ErrorCode, ...]]:
    """Return the groups of codes that share a status."""
    return set(by_status(codes, _status_of).values())


def by_status(
    codes: tuple[ErrorCode, ...], status_of: Callable[[ErrorCode], int]
) -> dict[int, tuple[ErrorCode, ...]]:
    """Return the codes that share a status, by it."""
    found: dict[int, tuple[ErrorCode, ...]] = {}
    for code in ErrorCode:  # in the order of the table, whatever order was asked for
        if code in codes:
            status = status_of(code)
            found[status] = (*found.get(status, ()), code)
    return found


def _status_of(code: ErrorCode) -> int:
    return ERRORS[code].http_status


def _name(group: tuple[ErrorCode, ...]) -> str:
    return ".".join(code.value for code in group)


def _refusal(group: tuple[ErrorCode, ...]) -> Node:
    status = ERRORS[group[0]].http_status
    names = _HEADERS_BY_STATUS.get(status, ())
    if ErrorCode.NOT_READY in group and len(group) == 1:
        names = ("Retry-After",)
    narrowed = {
        "$ref": "#/components/schemas/ProblemDetails",
        "properties": {
            "code": {"enum": [code.value for code in group]},
            "status": {"const": status},
        },
    }
    shown = {code.value: {"value": examples.problem(code)} for code in group}
    return {
        "description": " ".join(f"`{code.value}`: {ERRORS[code].meaning}" for code in group),
        "headers": with_headers(*names),
        "content": {PROBLEM_TYPE: {"schema": narrowed, "examples": shown}},
    }


def error_table() -> Node:
    """Return the table of codes, for people and for the page of documentation."""
    return {
        code.value: {
            "status": spec.http_status,
            "retryable": spec.retryable,
            "meaning": spec.meaning,
        }
        for code, spec in ERRORS.items()
    }


# ---------------------------------------------------------------- links


def links() -> Node:
    """Return where a job's id leads to."""
    return {
        f"{operation}{suffix}": {
            "operationId": operation,
            "parameters": {"job_id": f"$response.body#{pointer}"},
        }
        for suffix, pointer in (("", "/job_id"), ("_first", "/jobs/0/job_id"))
        for operation in JOB_OPERATIONS
    }


JOB_OPERATIONS = ("get_job", "get_result", "get_image", "cancel_job", "follow_job")


def leads_on(suffix: str = "") -> Node:
    """Return references to the links of an answer that names a job."""
    return {f"{name}{suffix}": reference("links", f"{name}{suffix}") for name in JOB_OPERATIONS}
