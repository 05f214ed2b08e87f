"""What schemathesis is told of us: pictures to ask for, promises beyond the document, a count.

Loaded by schemathesis itself (tools/api_check.py), in its own process.
"""

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import schemathesis

from schemas import ERRORS, ErrorCode, GenerationRequest, JobStatus, drawn_size
from schemas.http import IDEMPOTENCY_HEADER, ProblemDetails
from schemas.openai import (
    MAX_PICTURES,
    ImagesRequest,
    ImagesResponse,
    OpenAIError,
    status_of,
    type_of,
)
from schemas.request import MEDIA_TYPES
from schemas.status import JobState
from tools.openapi_examples import JOB_ID
from tools.openapi_parts import FACT_HEADERS, PROBLEM_TYPE

FINAL: frozenset[JobState] = frozenset({"succeeded", "cancelled"})
"""Ends that stay; what failed or expired may be asked for again under its key."""
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
JOB_API = ("/generate", "/job")
OPENAI_API = "/v1"
IMAGES = "/v1/images/generations"
MANY = 2
"""Pictures, instead of more; the most is asked for as it comes."""

Case = schemathesis.Case[Any]

cases: Counter[tuple[str, int]] = Counter()
"""Answers, by operation and status."""
_ends: dict[str, str] = {}
"""The final state that was told of a job."""


def _type_of(response: schemathesis.Response) -> str:
    return (response.headers.get("content-type") or [""])[0].partition(";")[0]


@schemathesis.hook
def filter_case(_: schemathesis.HookContext, case: Case) -> bool:
    """Leave out cases whose only fault is a header that nobody knows: that is no fault in HTTP.

    schemathesis means to do so itself, but takes a valid X-Deadline-Seconds beside such a header
    for invalid, because it compares the header's text with a number (4.32.5).
    """
    return not any("unknown-property" in name for name in case.headers)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: Case, __: dict[str, Any]) -> None:
    """Ask for JSON, for the picture's own type or for any image; give each body a key of its own.

    Of the images API up to two pictures are wanted: ten of each size took most of the time.
    """
    if case.operation.path == IMAGES and isinstance(case.body, dict):
        wanted = case.body.get("n")
        if type(wanted) is int and MANY <= wanted < MAX_PICTURES:
            case.body["n"] = MANY
    if case.operation.path == "/generate" and case.method == "POST":
        asked = case.body if isinstance(case.body, Mapping) else {}
        own = f"image/{asked.get('output_format', 'png')}"
        choices = ("application/json", own if own in MEDIA_TYPES.values() else "*/*", "image/*")
        case.headers["Accept"] = choices[_hash(case.body) % len(choices)]
    if case.headers.get(IDEMPOTENCY_HEADER) == JOB_ID:
        # The example of the document: with it for every body there would be conflicts only.
        case.headers[IDEMPOTENCY_HEADER] = f"{_hash(case.body):08x}"


def _hash(body: object) -> int:
    return zlib.crc32(repr(body).encode())


@schemathesis.deserializer(*MEDIA_TYPES.values())
def named_by_its_header(_: object, response: schemathesis.Response) -> dict[str, str]:
    """A picture leads on to its job as JSON does: by its id, which stands in a header."""
    return {"job_id": (response.headers.get("x-imagegen-job-id") or [""])[0]}


@schemathesis.hook
def after_call(
    _: schemathesis.HookContext, case: Case, response: schemathesis.Response
) -> None:
    """Count."""
    cases[case.operation.label, response.status_code] += 1


@schemathesis.check
def errors_are_typed(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """Every error of the job API is a problem whose parts agree with the table of codes."""
    if response.status_code < 400 or not case.operation.path.startswith(JOB_API):
        return
    assert _type_of(response) == PROBLEM_TYPE, f"an error as {_type_of(response)!r}"
    problem = ProblemDetails.model_validate_json(response.content)
    spec = ERRORS[problem.code]
    assert (problem.status, spec.http_status) == (response.status_code, response.status_code)
    assert (problem.type, problem.title) == (f"/docs#{problem.code}", spec.meaning)
    assert problem.retryable is spec.retryable
    assert problem.detail.strip(), "no word on what happened"
    if response.status_code == 503 or problem.code is ErrorCode.NOT_READY:
        assert "".join(response.headers.get("retry-after") or ()).isdigit(), "no Retry-After"


@schemathesis.check
def openai_errors_are_typed(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """Every error under `/v1` has OpenAI's shape, and says whether to try again as its code does."""
    if response.status_code < 400 or not case.operation.path.startswith(OPENAI_API):
        return
    assert _type_of(response) == "application/json", f"an error as {_type_of(response)!r}"
    told = OpenAIError.model_validate_json(response.content).error
    assert (status_of(told.code), type_of(told.code)) == (response.status_code, told.type)
    assert told.message.strip(), "no word on what happened"
    again = "true" if ERRORS[told.code].retryable else "false"
    assert "".join(response.headers.get("x-should-retry") or ()) == again
    if response.status_code in {429, 503}:
        assert "".join(response.headers.get("retry-after") or ()).isdigit(), "no Retry-After"


@schemathesis.check
def as_many_pictures_as_asked_for(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """An answer of the images API has all pictures, each whole, of the size that was asked for."""
    if response.status_code != 200 or case.operation.path != IMAGES:
        return
    asked = ImagesRequest.model_validate_json(json.dumps(case.body))
    told = ImagesResponse.model_validate_json(response.content)
    assert len(told.data) == (asked.n or 1), f"{len(told.data)} pictures"
    assert told.output_format == (asked.output_format or "png")
    for picture in told.data:
        image = base64.b64decode(picture.b64_json, validate=True)
        assert image.startswith(MAGIC[told.output_format]), f"no {told.output_format}"
    if asked.sides is not None:
        width, height = drawn_size(*asked.sides)
        assert told.size == f"{width}x{height}"


@schemathesis.check
def pictures_are_whole(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """A picture has its facts, its hash and its format right, as bytes and in JSON."""
    if response.status_code != 200 or not case.operation.path.startswith(JOB_API):
        return
    if _type_of(response).startswith("image/"):
        facts = {
            field: (response.headers.get(name.lower()) or [""])[0]
            for name, field in FACT_HEADERS.items()
        }
        assert all(facts.values()), f"facts that are missing: {facts}"
        assert _type_of(response) == f"image/{facts['format']}"
        _look(response.content, facts)
    elif _type_of(response) == "application/json":
        told = json.loads(response.content)
        if "image_base64" in told:
            _look(base64.b64decode(told["image_base64"], validate=True), told)


def _look(picture: bytes, facts: Mapping[str, Any]) -> None:
    assert hashlib.sha256(picture).hexdigest() == facts["sha256"], "the hash is not its own"
    assert picture.startswith(MAGIC[facts["format"]]), f"no {facts['format']}"


@schemathesis.check
def size_is_the_one_asked_for(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """What was drawn is what was asked for, or the nearest size that can be drawn."""
    if case.operation.path != "/generate" or _type_of(response) != "application/json":
        return
    if response.status_code != 200 or not isinstance(case.body, dict):
        return
    asked = GenerationRequest.model_validate_json(json.dumps(case.body))
    if asked.width is not None and asked.height is not None:
        told = json.loads(response.content)
        assert (told["width"], told["height"]) == drawn_size(asked.width, asked.height)


@schemathesis.check
def ended_stays_ended(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """A job that was told to have succeeded, or to be cancelled, is never told to be else."""
    if not case.operation.path.startswith("/job/{job_id}") or response.status_code >= 300:
        return
    if _type_of(response) == "application/json":
        told = json.loads(response.content)
        if "status" in told:
            job = JobStatus.model_validate_json(response.content)
            before = _ends.get(job.job_id, job.status)
            assert before == job.status, f"{before} became {job.status}"
            if job.status in FINAL:
                _ends[job.job_id] = job.status
