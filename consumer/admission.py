"""Admission: the facts of a delivery, the time and the limits give a job or a refusal. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn
from uuid import UUID, uuid5

from consumer.errors import Fault
from consumer.guard import UNREADABLE
from consumer.job import Drawing, IdSource, Job
from schemas.base import JOB_ID_PATTERN
from schemas.errors import ErrorCode, Problem
from schemas.reply import ACCEPT_HEADER
from schemas.request import MAX_BODY_BYTES, REQUEST_TYPE, GenerationRequest, parse_request
from schemas.sizes import drawn_size

_NAMESPACE = UUID("5c1b6bd4-7d0c-5a0e-9b1f-2f6f0d5b8a11")
"""Of the job ids derived with UUIDv5 (RFC 9562); any constant will do, this one is ours."""

CLOCK_SKEW = timedelta(seconds=60)
"""A timestamp further from our clock than this (and its patience) is not believed."""

TIMESTAMP_UNIT = timedelta(seconds=1)

Accept = Literal["json", "raw"]

_ACCEPTED = ("application/json", "image/png", "image/webp", "image/jpeg", "image/*")
"""A tuple, not a set: a header may be a list or a table, which cannot be looked up in a set."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the broker handed us, as facts."""

    body: bytes
    receipt_id: str
    """A UUID made up at the receipt: the job id of last resort."""
    content_type: str | None = None
    content_encoding: str | None = None
    type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration_s: float | None = None
    timestamp: datetime | None = None
    user_id: str | None = None
    redelivered: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unreadable(self) -> frozenset[str]:
        """The properties that could not be decoded and are missing here."""
        names = self.headers.get(UNREADABLE)
        return frozenset(names.split(",")) if isinstance(names, str) else frozenset()

    @property
    def accept(self) -> Accept:
        """Raw image bytes instead of JSON, where the caller asked for them."""
        value = self.headers.get(ACCEPT_HEADER)
        return "raw" if isinstance(value, str) and value.startswith("image/") else "json"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service and its model allow."""

    default_width: int
    default_height: int
    default_steps: int
    guidance_scale: float
    """0: the model takes no guidance."""
    steps_per_forward_less: int
    """Forwards = steps - this: 1 for Z-Image, 0 for other pipelines."""
    default_deadline: timedelta
    reply_to_allow: re.Pattern[str]
    own_objects: frozenset[str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The caller is told, under this job id."""

    job_id: str
    body_sha256: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class NobodyToTell:
    """The message goes to the parking queue, unless its job waits in the store."""

    reason: str
    refusal: Refusal | None = None
    """What its caller may find in the store; None where it cannot be addressed."""


class _RefusedError(Exception):
    """Carries a fault out of the nested checks; does not leave this file."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def admit(delivery: Delivery, now: datetime, limits: Limits) -> Job | Refusal | NobodyToTell:
    """Decide on a delivery, looking at nothing but the arguments."""
    if (unaddressed := unaddressable(delivery, limits)) is not None:
        return NobodyToTell(unaddressed)
    body_sha256 = hashlib.sha256(delivery.body).hexdigest()
    job_id, source = job_identity(delivery, body_sha256)
    try:
        _check_envelope(delivery)
        drawing = _drawing(_read(delivery.body), job_id, limits)
    except _RefusedError as refused:
        refusal = Refusal(job_id, body_sha256, refused.fault)
        if not delivery.reply_to:
            return NobodyToTell(refused.fault.code.value, refusal)
        return refusal
    published, deadline = _times(delivery, now, limits)
    return Job(job_id, source, body_sha256, drawing, published, deadline, delivery.user_id)


def read_body(body: bytes) -> GenerationRequest | Fault:
    """Return the request that a body holds, or what is wrong with it."""
    try:
        return _read(body)
    except _RefusedError as refused:
        return refused.fault


def drawing_of(request: GenerationRequest, job_id: str, limits: Limits) -> Drawing | Fault:
    """Return what is drawn for a request, or what the model cannot do of it."""
    try:
        return _drawing(request, job_id, limits)
    except _RefusedError as refused:
        return refused.fault


def unaddressable(delivery: Delivery, limits: Limits) -> str | None:
    """Return why no answer may be sent where this delivery wants it, or None."""
    if delivery.unreadable - {"timestamp"}:
        return "unreadable_properties"
    if delivery.reply_to and not _may_reply_to(delivery.reply_to, limits):
        return "reply_to_not_allowed"
    return None


def job_identity(delivery: Delivery, body_sha256: str) -> tuple[str, IdSource]:
    """Return the job's id and where it came from.

    Without `message_id` it is the UUIDv5 of (reply_to, correlation_id, SHA-256 of the body), so
    that a redelivery finds the same job.
    """
    if delivery.message_id and re.fullmatch(JOB_ID_PATTERN, delivery.message_id):
        return delivery.message_id, IdSource.GIVEN
    if delivery.correlation_id:
        name = json.dumps([delivery.reply_to, delivery.correlation_id, body_sha256])
        return str(uuid5(_NAMESPACE, name)), IdSource.DERIVED
    return delivery.receipt_id, IdSource.NONE


def derived_seed(job_id: str) -> int:
    """Return the seed of a job that named none: 53 bits of the id's SHA-256.

    A rerun on another machine then draws the same picture.
    """
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big") >> 11


def _may_reply_to(reply_to: str, limits: Limits) -> bool:
    if reply_to in limits.own_objects:
        return False
    return limits.reply_to_allow.fullmatch(reply_to) is not None


def _refuse(code: ErrorCode, message: str, *details: Problem) -> NoReturn:
    raise _RefusedError(Fault(code, message, details))


def _check_envelope(delivery: Delivery) -> None:
    if delivery.type not in {None, "", REQUEST_TYPE}:
        _refuse(
            ErrorCode.UNSUPPORTED_VERSION,
            f"The message type is unknown. Send {REQUEST_TYPE}, or no type.",
            Problem(field="type", problem="This type is unknown.", suggestion=REQUEST_TYPE),
        )
    if len(delivery.body) > MAX_BODY_BYTES:
        _refuse(
            ErrorCode.REQUEST_TOO_LARGE,
            f"The body has {len(delivery.body):,} bytes; at most {MAX_BODY_BYTES:,} are taken.",
        )
    problems = tuple(_envelope_problems(delivery))
    if problems:
        _refuse(ErrorCode.INVALID_REQUEST, _summary(problems), *problems)


def _envelope_problems(delivery: Delivery) -> list[Problem]:
    problems = []
    media_type = (delivery.content_type or "application/json").split(";")[0].strip().lower()
    if media_type != "application/json":
        problems.append(
            Problem(
                field="content_type",
                problem="The body must be JSON.",
                suggestion="application/json",
            )
        )
    if (delivery.content_encoding or "utf-8").lower() not in {"utf-8", "utf8", "identity"}:
        problems.append(
            Problem(
                field="content_encoding",
                problem="Encoded bodies are not taken.",
                suggestion="leave it out",
            )
        )
    if delivery.message_id and not re.fullmatch(JOB_ID_PATTERN, delivery.message_id):
        problems.append(
            Problem(
                field="message_id",
                problem="A job id has 1 to 128 letters, digits, _ and -.",
                suggestion="a UUID",
            )
        )
    accept = delivery.headers.get(ACCEPT_HEADER, "application/json")
    if accept not in _ACCEPTED:
        problems.append(
            Problem(
                field=ACCEPT_HEADER,
                problem="This answer cannot be given.",
                suggestion="application/json or image/png",
            )
        )
    return problems


def _read(body: bytes) -> GenerationRequest:
    try:
        fields = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except UnicodeDecodeError:
        _refuse(ErrorCode.INVALID_REQUEST, "The body is not valid UTF-8.")
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200] if isinstance(error, ValueError) else "too deeply nested"
        _refuse(ErrorCode.INVALID_REQUEST, f"The body is not valid JSON: {reason}.")
    if not isinstance(fields, dict):
        _refuse(
            ErrorCode.INVALID_REQUEST,
            'The body is not a JSON object. Send {"prompt": "..."}.',
        )
    request = parse_request(fields)
    if isinstance(request, tuple):
        _refuse(ErrorCode.INVALID_REQUEST, _summary(request), *request)
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is given twice")
    return fields


def _summary(problems: tuple[Problem, ...]) -> str:
    first = problems[0]
    hint = f" ({first.suggestion})" if first.suggestion else ""
    more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    return f"{first.field}: {first.problem}{hint}{more}"


def _drawing(request: GenerationRequest, job_id: str, limits: Limits) -> Drawing:
    width, height = drawn_size(
        request.width or limits.default_width, request.height or limits.default_height
    )
    steps = request.num_inference_steps or limits.default_steps
    problems = _model_problems(request, limits)
    if problems:
        _refuse(ErrorCode.INVALID_REQUEST, _summary(problems), *problems)
    return Drawing(
        prompt=request.prompt,
        width=width,
        height=height,
        seed=derived_seed(job_id) if request.seed is None else request.seed,
        forwards=steps - limits.steps_per_forward_less,
        steps=steps,
        guidance=limits.guidance_scale
        if request.guidance_scale is None
        else request.guidance_scale,
        output_format=request.output_format,
    )


def _model_problems(request: GenerationRequest, limits: Limits) -> tuple[Problem, ...]:
    if not request.guidance_scale or limits.guidance_scale:
        return ()
    return (
        Problem(
            field="guidance_scale",
            problem="This model is distilled and has no use for guidance.",
            suggestion="leave it out, or send 0.0",
        ),
    )


def _times(delivery: Delivery, now: datetime, limits: Limits) -> tuple[datetime, datetime]:
    """Return when the request was published and when the caller stops waiting.

    Deadline = timestamp + expiration; counted from the receipt where the timestamp is missing
    or lies in the future, or further back than the patience, by more than CLOCK_SKEW. AMQP cuts
    a timestamp to whole seconds: its caller is given the one that may be missing.
    """
    patience = (
        limits.default_deadline
        if delivery.expiration_s is None
        else timedelta(seconds=delivery.expiration_s)
    )
    published = _aware(delivery.timestamp) if delivery.timestamp else now
    if not now - patience - CLOCK_SKEW <= published <= now + CLOCK_SKEW:
        published = now
    return published, max(published, min(published + TIMESTAMP_UNIT, now)) + patience


def _aware(timestamp: datetime) -> datetime:
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
