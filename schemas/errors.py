"""The error codes: one table with what each means for the caller."""

from dataclasses import dataclass
from enum import StrEnum

from schemas.base import Contract


class ErrorCode(StrEnum):
    """The machine-readable name of everything that can go wrong."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_VERSION = "unsupported_version"
    REQUEST_TOO_LARGE = "request_too_large"
    RESULT_TOO_LARGE = "result_too_large"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    POISON = "poison"
    OUT_OF_MEMORY = "out_of_memory"
    GPU_TIMEOUT = "gpu_timeout"
    GPU_DIED = "gpu_died"
    NAN_OUTPUT = "nan_output"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    INTERNAL = "internal"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    NOT_READY = "not_ready"
    GONE = "gone"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What a code means: may the same request be tried again, and where does it travel."""

    retryable: bool
    """The same request may succeed later, unchanged."""
    amqp: bool
    """Sent in AMQP replies; the others exist in the HTTP face and the client only."""
    http_status: int
    meaning: str


ERRORS: dict[ErrorCode, ErrorSpec] = {
    ErrorCode.INVALID_REQUEST: ErrorSpec(
        retryable=False,
        amqp=True,
        http_status=400,
        meaning="A field is missing, unknown or out of range.",
    ),
    ErrorCode.UNSUPPORTED_VERSION: ErrorSpec(
        retryable=False,
        amqp=True,
        http_status=400,
        meaning="The message type is not one we speak.",
    ),
    ErrorCode.REQUEST_TOO_LARGE: ErrorSpec(
        retryable=False, amqp=True, http_status=413, meaning="The body is larger than 64 KiB."
    ),
    ErrorCode.RESULT_TOO_LARGE: ErrorSpec(
        retryable=False,
        amqp=True,
        http_status=422,
        meaning="The reply would be larger than 12 MiB.",
    ),
    ErrorCode.DEADLINE_EXCEEDED: ErrorSpec(
        retryable=True, amqp=True, http_status=504, meaning="The caller's patience ended first."
    ),
    ErrorCode.CANCELLED: ErrorSpec(
        retryable=False, amqp=True, http_status=409, meaning="The job was cancelled on request."
    ),
    ErrorCode.POISON: ErrorSpec(
        retryable=False,
        amqp=True,
        http_status=422,
        meaning="The job brought the GPU process down three times.",
    ),
    ErrorCode.OUT_OF_MEMORY: ErrorSpec(
        retryable=True,
        amqp=True,
        http_status=503,
        meaning="The GPU had too little memory for this picture.",
    ),
    ErrorCode.GPU_TIMEOUT: ErrorSpec(
        retryable=True,
        amqp=True,
        http_status=504,
        meaning="The GPU did not finish within the job's hard limit.",
    ),
    ErrorCode.GPU_DIED: ErrorSpec(
        retryable=True,
        amqp=True,
        http_status=503,
        meaning="The GPU process died and could not be replaced.",
    ),
    ErrorCode.NAN_OUTPUT: ErrorSpec(
        retryable=True,
        amqp=True,
        http_status=503,
        meaning="The arithmetic gave no picture (not a number).",
    ),
    ErrorCode.IDEMPOTENCY_CONFLICT: ErrorSpec(
        retryable=False,
        amqp=True,
        http_status=409,
        meaning="The job id was used before with another body.",
    ),
    ErrorCode.INTERNAL: ErrorSpec(
        retryable=True,
        amqp=True,
        http_status=500,
        meaning="A defect of the service; its log knows more.",
    ),
    ErrorCode.BUSY: ErrorSpec(
        retryable=True,
        amqp=False,
        http_status=503,
        meaning="The queue is full; try again a little later.",
    ),
    ErrorCode.UNAVAILABLE: ErrorSpec(
        retryable=True,
        amqp=False,
        http_status=503,
        meaning="The broker cannot be reached or has no queue.",
    ),
    ErrorCode.UNAUTHORIZED: ErrorSpec(
        retryable=False, amqp=False, http_status=401, meaning="No valid token was given."
    ),
    ErrorCode.FORBIDDEN: ErrorSpec(
        retryable=False, amqp=False, http_status=403, meaning="The caller may not do this."
    ),
    ErrorCode.NOT_FOUND: ErrorSpec(
        retryable=False, amqp=False, http_status=404, meaning="No such job or page."
    ),
    ErrorCode.NOT_READY: ErrorSpec(
        retryable=True, amqp=False, http_status=409, meaning="The job has no result yet."
    ),
    ErrorCode.GONE: ErrorSpec(
        retryable=False,
        amqp=False,
        http_status=410,
        meaning="The result was kept for a while and then removed.",
    ),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorSpec(
        retryable=False, amqp=False, http_status=405, meaning="The page knows other methods."
    ),
    ErrorCode.NOT_ACCEPTABLE: ErrorSpec(
        retryable=False,
        amqp=False,
        http_status=406,
        meaning="The answer cannot be given in the format asked for.",
    ),
    ErrorCode.REQUEST_TIMEOUT: ErrorSpec(
        retryable=True, amqp=False, http_status=408, meaning="The body came too slowly."
    ),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorSpec(
        retryable=False, amqp=False, http_status=415, meaning="The body is not JSON."
    ),
}


class Problem(Contract):
    """One thing wrong with one field of a request."""

    field: str
    """The field, header or property that is meant."""
    problem: str
    """What is wrong with it, as a sentence."""
    suggestion: str | None = None
    """What to send instead, where we can tell."""


class ErrorInfo(Contract):
    """The error of a reply."""

    code: ErrorCode
    message: str
    """A sentence for people, with the remedy."""
    retryable: bool
    """The same request may be sent again, unchanged."""
    details: tuple[Problem, ...] = ()
