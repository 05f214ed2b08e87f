"""The asked: what an HTTP request wants, read within limits of size and time."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request

from consumer.admission import Limits, drawing_of, read_body
from consumer.errors import Fault
from consumer.http import accept
from consumer.http.problems import ProblemError, invalid
from consumer.job import Drawing
from consumer.queries import cursor_of
from consumer.store import Wanted
from schemas.base import JOB_ID_PATTERN
from schemas.errors import ErrorCode
from schemas.http import DEADLINE_HEADER, IDEMPOTENCY_HEADER, MAX_DEADLINE_S
from schemas.request import (
    MAX_BODY_BYTES,
    MEDIA_TYPES,
    GenerationRequest,
)
from schemas.status import DEFAULT_PAGE, ENDED, MAX_PAGE, JobState

T = TypeVar("T")

SHORTEST_S = 0.001
"""The patience that AMQP can tell: a millisecond."""
BODY_TIMEOUT_S = 10.0
"""For the whole body to arrive."""
_NUMBER = r"[0-9]{1,20}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?"
"""A number as JSON writes those that are not negative."""
_FORMATS = {media_type: name for name, media_type in MEDIA_TYPES.items()}
_STATES = frozenset({"queued", "running"}) | ENDED


class ClientGoneError(Exception):
    """Nobody is there any more to be answered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture that an HTTP caller wants."""

    job_id: str
    request: GenerationRequest
    drawing: Drawing
    deadline_s: float
    raw: bool
    """The picture itself is the answer's body."""

    @property
    def options(self) -> dict[str, Any]:
        """What differs from the defaults, so that the same wish has the same body."""
        return self.request.model_dump(exclude_defaults=True, exclude={"prompt"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """What came with a request, and its body."""

    key: str
    """The caller's, or one that nobody had."""
    is_new: bool
    """It is one that nobody had."""
    deadline_s: float
    body: bytes


async def asked(request: Request, limits: Limits, *, blocking: bool) -> Asked:
    """Read a request for a picture.

    Raises:
        ProblemError: something is wrong with it.
        ClientGoneError: it was never finished.
    """
    envelope = await enveloped(request, limits)
    wanted = _good(read_body(envelope.body))
    raw = False
    if blocking:
        wanted, raw = _as_accepted(wanted, request.headers.get("accept"))
    return asked_for(wanted, envelope.key, envelope.deadline_s, limits, raw=raw)


async def enveloped(request: Request, limits: Limits) -> Envelope:
    """Read a request with a body of JSON that is not looked at yet.

    Raises:
        ProblemError: something is wrong with it.
        ClientGoneError: it was never finished.
    """
    headers = request.headers
    key = _job_id(headers.get(IDEMPOTENCY_HEADER))
    deadline_s = _deadline_s(headers.get(DEADLINE_HEADER), limits)
    _check_media_type(headers.get("content-type", ""), headers.get("content-encoding"))
    is_new = IDEMPOTENCY_HEADER not in headers
    return Envelope(key, is_new, deadline_s, await _body(request))


def asked_for(
    wanted: GenerationRequest, job_id: str, deadline_s: float, limits: Limits, *, raw: bool
) -> Asked:
    """Return what a caller wants. Raises ProblemError where the model cannot do it."""
    return Asked(job_id, wanted, _good(drawing_of(wanted, job_id, limits)), deadline_s, raw)


def job_id_of(request: Request) -> str:
    """Return the job id of a path."""
    job_id: str = request.path_params["job_id"]
    if not re.fullmatch(JOB_ID_PATTERN, job_id):
        raise invalid("job_id", "This is no job id.", "1 to 128 letters, digits, _ and -")
    return job_id


def page_of(request: Request) -> Wanted:
    """Return which jobs the query of a list asks for."""
    query = request.query_params
    for name in query:
        if name not in {"limit", "before", "status"}:
            raise invalid(name[:100], "This parameter is not known.", "limit, before, status")
    if len(query.multi_items()) != len(query):
        raise invalid("query", "A parameter is given twice.", "each of them once")
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= MAX_PAGE:
        raise invalid("limit", "This is no number of jobs.", f"1 to {MAX_PAGE}")
    status = query.get("status")
    if status is not None and status not in _STATES:
        raise invalid("status", "This is no state.", ", ".join(sorted(_STATES)))
    try:
        before = cursor_of(query.get("before"))
    except ValueError:
        raise invalid("before", "This is no cursor of ours.", "`next` of a list") from None
    return Wanted(int(limit), before, cast("JobState | None", status))


def check_takes(request: Request, media_type: str = accept.JSON) -> None:
    """Refuse a caller that does not take the one form in which the answer is."""
    if accept.best(request.headers.get("accept"), [media_type]) is None:
        message = f"The answer is {media_type}. Accept that, or */*."
        raise ProblemError(Fault(ErrorCode.NOT_ACCEPTABLE, message))


def _good(found: T | Fault) -> T:
    if isinstance(found, Fault):
        raise ProblemError(found)
    return found


def _job_id(key: str | None) -> str:
    if key is None:
        return str(uuid4())
    if not re.fullmatch(JOB_ID_PATTERN, key):
        suggestion = "1 to 128 letters, digits, _ and -, such as a UUID"
        raise invalid(IDEMPOTENCY_HEADER, "This cannot be a job id.", suggestion)
    return key


def _deadline_s(text: str | None, limits: Limits) -> float:
    if text is None:
        return limits.default_deadline.total_seconds()
    seconds = float(text) if re.fullmatch(_NUMBER, text) else 0.0
    if not 0 < seconds <= MAX_DEADLINE_S:
        suggestion = f"seconds, above 0 and up to {MAX_DEADLINE_S}"
        raise invalid(DEADLINE_HEADER, "This is no patience that can be had.", suggestion)
    return max(seconds, SHORTEST_S)


def _check_media_type(content_type: str, encoding: str | None) -> None:
    """A form, which any page may send anywhere, is not JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != accept.JSON or (encoding or "identity").lower() != "identity":
        message = "The body must be plain JSON: send it with Content-Type: application/json."
        raise ProblemError(Fault(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message))


async def _body(request: Request) -> bytes:
    too_large = ProblemError(
        Fault(
            ErrorCode.REQUEST_TOO_LARGE,
            f"The body is too large; at most {MAX_BODY_BYTES:,} bytes are taken.",
        ),
        headers={"Connection": "close"},
    )
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        message = f"The body did not arrive within {BODY_TIMEOUT_S:g} s."
        raise ProblemError(
            Fault(ErrorCode.REQUEST_TIMEOUT, message), headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ClientGoneError from None
    return bytes(body)


def _as_accepted(
    wanted: GenerationRequest, header: str | None
) -> tuple[GenerationRequest, bool]:
    """Return the request in the format that the caller accepts, and whether as raw bytes."""
    said = "output_format" in wanted.model_fields_set
    images = [MEDIA_TYPES[wanted.output_format]] if said else list(_FORMATS)
    chosen = accept.best(header, [accept.JSON, *images])
    if chosen is None:
        offered = ", ".join([accept.JSON, *images])
        message = f"The answer can be had as {offered}. Accept one of them, or */*."
        raise ProblemError(Fault(ErrorCode.NOT_ACCEPTABLE, message))
    if chosen == accept.JSON:
        return wanted, False
    return wanted.model_copy(update={"output_format": _FORMATS[chosen]}), True
