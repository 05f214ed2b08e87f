"""The operations of the HTTP face as a table: paths, parameters, answers and error codes."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import ERRORS
from schemas.errors import ErrorCode as E
from schemas.openai import status_of
from schemas.request import MEDIA_TYPES
from tools import openapi_examples as examples
from tools.openapi_parts import (
    FACT_HEADERS,
    Node,
    json_content,
    leads_on,
    reference,
    with_headers,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: Literal["get", "post", "delete"]
    path: str
    operation_id: str
    tag: str
    summary: str
    """A sentence."""
    answers: dict[int, Node]
    """What is no error, by status."""
    codes: tuple[E, ...] = ()
    parameters: tuple[str, ...] = ()
    """Names of components."""
    description: str = ""
    takes: str = ""
    """The schema of its body, where it has one."""
    open: bool = False
    """No token is asked for."""
    as_openai: bool = False
    """Its errors have OpenAI's shape."""

    def status_of(self, code: E) -> int:
        """Return the HTTP status of an error here."""
        return status_of(code) if self.as_openai else ERRORS[code].http_status


GUARD = (E.UNAUTHORIZED, E.FORBIDDEN, E.INTERNAL)
"""What any page of the job API may answer before it looks at the job."""
ASKED = (*GUARD, E.UNAVAILABLE, E.INVALID_REQUEST, E.NOT_FOUND)
"""Of the pages of one job."""
SENT = (
    *GUARD,
    E.UNAVAILABLE,
    E.INVALID_REQUEST,
    E.REQUEST_TIMEOUT,
    E.REQUEST_TOO_LARGE,
    E.UNSUPPORTED_MEDIA_TYPE,
    E.IDEMPOTENCY_CONFLICT,
    E.BUSY,
)
"""Of the two ways to ask for a picture."""
ENDED_BADLY = (
    E.CANCELLED,
    E.POISON,
    E.RESULT_TOO_LARGE,
    E.OUT_OF_MEMORY,
    E.GPU_DIED,
    E.NAN_OUTPUT,
    E.DEADLINE_EXCEEDED,
    E.GPU_TIMEOUT,
)
"""How a job that was taken may end without a picture."""
KEPT = (*ASKED, *ENDED_BADLY, E.NOT_READY, E.GONE, E.NOT_ACCEPTABLE)
"""Of the two pages of a result."""

TAGS = {
    "pictures": "Ask for a picture and wait, or ask and come back.",
    "jobs": "Follow, fetch, list and cancel what was asked for.",
    "images": "The images API of OpenAI over the same jobs, for programs that speak it. Errors are "
    "`application/json` in OpenAI's shape, with our codes; a full queue is 429 there.",
    "probes": "For whoever runs the service; no token, any `Host`.",
    "documents": "What you read.",
}

_STATES = {
    "queued": examples.QUEUED,
    "running": examples.RUNNING,
    "succeeded": examples.SUCCEEDED,
}
_EVENTS: Node = {
    "text/event-stream": {
        "schema": reference("schemas", "StatusEvent"),
        "example": f"id: 1\nevent: queued\ndata: {json.dumps(examples.QUEUED)}\n\n",
    }
}
"""The schema is that of each event."""
IMAGES: Node = {media_type: {} for media_type in MEDIA_TYPES.values()}
"""Bytes: OpenAPI 3.1 wants no schema for them."""


def _answer(
    description: str,
    content: Node | None = None,
    headers: tuple[str, ...] = (),
    links: Node | None = None,
) -> Node:
    return {
        "description": description,
        "headers": with_headers(*headers),
        **({"content": content} if content else {}),
        **({"links": links} if links else {}),
    }


def _json(schema: str, shown: dict[str, Any], media_type: str = "application/json") -> Node:
    return {media_type: json_content(schema, shown)}


def _text(media_type: str, example: str) -> Node:
    return {media_type: {"schema": {"type": "string"}, "example": example}}


PICTURES = (
    Operation(
        method="post",
        path="/generate",
        operation_id="generate",
        tag="pictures",
        summary="Draw a picture and wait for it.",
        description="`Accept` chooses between JSON (default) and the picture's bytes. `Accept: "
        "image/webp` without `output_format` asks for WebP; an `Accept` that excludes the format "
        "is answered 406. A caller that goes away calls the job off.",
        takes="GenerationRequest",
        parameters=("IdempotencyKey", "DeadlineSeconds"),
        answers={
            200: _answer(
                "The picture: in JSON as base64, or as bytes with its facts as headers.",
                {**_json("GenerationResult", {"drawn": examples.RESULT}), **IMAGES},
                tuple(FACT_HEADERS),
                leads_on(),
            )
        },
        codes=(*SENT, *ENDED_BADLY, E.NOT_ACCEPTABLE),
    ),
    Operation(
        method="post",
        path="/generate/async",
        operation_id="generate_async",
        tag="pictures",
        summary="Ask for a picture and go on.",
        description="The job is in the queue when this answers; where it stands is at `Location`.",
        takes="GenerationRequest",
        parameters=("IdempotencyKey", "DeadlineSeconds"),
        answers={
            202: _answer(
                "The job is in the queue, or was there before under this key.",
                _json("Accepted", {"accepted": examples.ACCEPTED}),
                ("Location",),
                leads_on(),
            )
        },
        codes=(*SENT, E.CANCELLED, E.POISON, E.RESULT_TOO_LARGE, E.NOT_ACCEPTABLE),
    ),
)

JOBS = (
    Operation(
        method="get",
        path="/job/{job_id}",
        operation_id="get_job",
        tag="jobs",
        summary="Where a job stands.",
        parameters=("JobId",),
        answers={200: _answer("Its status.", _json("JobStatus", _STATES), links=leads_on())},
        codes=ASKED,
    ),
    Operation(
        method="get",
        path="/job/{job_id}/result",
        operation_id="get_result",
        tag="jobs",
        summary="The result of a job, as POST /generate would have told it.",
        description="A job that ended without a picture answers with its own error and status.",
        parameters=("JobId",),
        answers={
            200: _answer("The picture.", _json("GenerationResult", {"drawn": examples.RESULT}))
        },
        codes=KEPT,
    ),
    Operation(
        method="get",
        path="/job/{job_id}/image",
        operation_id="get_image",
        tag="jobs",
        summary="The picture of a job as a file.",
        description="In the format that was asked for; an `Accept` that excludes it is answered "
        "406. It never changes, so it may be cached for ever.",
        parameters=("JobId", "IfNoneMatch"),
        answers={
            200: _answer("The file.", IMAGES, ("ETag", "Cache-Control", *FACT_HEADERS)),
            304: _answer("The caller has it.", headers=("ETag",)),
        },
        codes=KEPT,
    ),
    Operation(
        method="get",
        path="/job/{job_id}/events",
        operation_id="follow_job",
        tag="jobs",
        summary="The life of a job as server-sent events.",
        description="The first event tells where it stands now, the others every change: "
        "`queued`, `running`, `step`, `succeeded`, `failed`, `cancelled`, `expired`, each with a "
        "JobStatus as `data`. The stream ends with the job. A comment every 15 s says that it "
        "is alive.",
        parameters=("JobId",),
        answers={200: _answer("The events.", _EVENTS)},
        codes=(*ASKED, E.BUSY),
    ),
    Operation(
        method="delete",
        path="/job/{job_id}",
        operation_id="cancel_job",
        tag="jobs",
        summary="Call a job off.",
        description="What is drawn stops at its next step. The job stays known as `cancelled`.",
        parameters=("JobId",),
        answers={
            200: _answer(
                "It had ended already.", _json("JobStatus", {"succeeded": examples.SUCCEEDED})
            ),
            202: _answer(
                "It is called off.", _json("JobStatus", {"cancelled": examples.CANCELLED})
            ),
        },
        codes=ASKED,
    ),
    Operation(
        method="get",
        path="/jobs",
        operation_id="list_jobs",
        tag="jobs",
        summary="The jobs that are known, the newest first.",
        parameters=("Limit", "Before", "Status"),
        answers={
            200: _answer(
                "A page of them.",
                _json("JobList", {"one": examples.JOBS}),
                links=leads_on("_first"),
            )
        },
        codes=(*GUARD, E.UNAVAILABLE, E.INVALID_REQUEST),
    ),
)

OPENAI = (
    Operation(
        method="post",
        path="/v1/images/generations",
        operation_id="openai_generate",
        tag="images",
        summary="Draw up to ten pictures and wait for all of them.",
        description="Each is a job with a place in the queue; where one cannot be had the others "
        "are called off, and so are all where the caller goes away. The first picture's job has "
        "`Idempotency-Key` as its id, unless that was called off before: under its key a request is "
        "answered with the pictures that were drawn, and the others are drawn. Fields that are not "
        "known are ignored.",
        takes="ImagesRequest",
        parameters=("IdempotencyKey", "DeadlineSeconds"),
        answers={
            200: _answer(
                "All pictures, as base64.", _json("ImagesResponse", {"drawn": examples.IMAGES})
            )
        },
        codes=(*SENT, *ENDED_BADLY),
        as_openai=True,
    ),
    Operation(
        method="get",
        path="/v1/models",
        operation_id="openai_models",
        tag="images",
        summary="The model that draws here.",
        answers={200: _answer("Its list.", _json("ModelList", {"one": examples.MODELS}))},
        codes=GUARD,
        as_openai=True,
    ),
    Operation(
        method="get",
        path="/v1/models/{model}",
        operation_id="openai_model",
        tag="images",
        summary="A model by its name.",
        parameters=("Model",),
        answers={200: _answer("The model.", _json("Model", {"one": examples.MODEL}))},
        codes=(*GUARD, E.NOT_FOUND),
        as_openai=True,
    ),
)


def _probe(path: str, operation_id: str, summary: str, answers: dict[int, Node]) -> Operation:
    return Operation(
        method="get",
        path=path,
        operation_id=operation_id,
        tag="probes",
        summary=summary,
        answers=answers,
        open=True,
    )


def _verdicts(yes: str, no: str) -> dict[int, Node]:
    return {
        status: _answer(text, _json("Probe", {"told": shown}))
        for status, text, shown in ((200, yes, examples.PASS), (503, no, examples.FAIL))
    }


_HEALTH = _json("Health", {"ready": examples.HEALTH}, "application/health+json")

PROBES = (
    _probe(
        "/",
        "index",
        "The pages of the service.",
        {200: _answer("Their list.", _json("Index", {"index": examples.INDEX}))},
    ),
    _probe(
        "/livez",
        "livez",
        "Whether the service's event loop runs and watches its GPU process.",
        _verdicts(
            "It runs, and the GPU process is watched.", "One of them stands still: start anew."
        ),
    ),
    _probe(
        "/readyz",
        "readyz",
        "Whether requests are taken.",
        _verdicts("They are.", "They are not; `note` says why."),
    ),
    _probe(
        "/startupz",
        "startupz",
        "Whether a model was loaded and warm since the start.",
        _verdicts("It was.", "Not yet; `note` says why."),
    ),
    _probe(
        "/health",
        "health",
        "Status, model, GPU, broker and work in hand.",
        {200: _answer("It works.", _HEALTH), 503: _answer("It cannot work.", _HEALTH)},
    ),
    _probe(
        "/metrics",
        "metrics",
        "Metrics for Prometheus.",
        {200: _answer("In text format.", _text("text/plain", examples.METRICS))},
    ),
)

DOCUMENTS = (
    Operation(
        method="get",
        path="/openapi.json",
        operation_id="openapi",
        tag="documents",
        summary="This document.",
        answers={
            200: _answer("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})
        },
        codes=(E.FORBIDDEN,),
        open=True,
    ),
    Operation(
        method="get",
        path="/docs",
        operation_id="docs",
        tag="documents",
        summary="This document as a page, with every error code at its `#code`.",
        answers={200: _answer("HTML without scripts.", _text("text/html", "<!doctype html>"))},
        codes=(E.FORBIDDEN,),
        open=True,
    ),
)

OPERATIONS = (*PICTURES, *JOBS, *OPENAI, *PROBES, *DOCUMENTS)
