"""The errors: what a caller catches; each knows its code and whether trying again may help."""

from collections.abc import Mapping, Sequence
from typing import Any


class ImageError(Exception):
    """Base of all: `code` is machine-readable, `message` a sentence, `retryable` the advice."""

    code = "internal"
    retryable = False
    perhaps_taken = False
    """A copy of the request may be in the queue, or in somebody's hands: it may be drawn yet.

    False where the broker refused it, or the service has had the last word.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        job_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        """`{"field", "problem", "suggestion"}` of each field that is wrong."""
        self.job_id = job_id
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class Busy(ImageError):  # noqa: N818 - reads as what it says
    """The queue is full: the request was refused at once and is not stored anywhere."""

    code = "busy"
    retryable = True
    retry_after_s = 5.0
    """Seconds after which trying again makes sense."""


class Unavailable(ImageError):  # noqa: N818
    """The broker cannot be reached, or has no queue for requests."""

    code = "unavailable"
    retryable = True


class NotFound(ImageError):  # noqa: N818
    """Nobody who was asked knows the job."""

    code = "not_found"


class DeadlineExceeded(ImageError):  # noqa: N818
    """No picture within the deadline."""

    code = "deadline_exceeded"
    retryable = True


class Cancelled(ImageError):  # noqa: N818
    """The job was cancelled."""

    code = "cancelled"


class InvalidRequest(ImageError):  # noqa: N818
    """The request is at fault; `details` says which fields and what to send instead."""

    code = "invalid_request"


class GenerationFailed(ImageError):  # noqa: N818
    """The service could not draw it; `code` and `retryable` say more."""


_BY_CODE: dict[str, type[ImageError]] = {
    "busy": Busy,
    "unavailable": Unavailable,
    "not_found": NotFound,
    "deadline_exceeded": DeadlineExceeded,
    "cancelled": Cancelled,
    "invalid_request": InvalidRequest,
    "unsupported_version": InvalidRequest,
    "request_too_large": InvalidRequest,
    "idempotency_conflict": InvalidRequest,
}


def error_from_reply(reply: Mapping[str, Any]) -> ImageError:
    """Return the exception for an error reply."""
    error = reply.get("error") or {}
    code = str(error.get("code", "internal"))
    return _BY_CODE.get(code, GenerationFailed)(
        str(error.get("message", "The service gave no reason.")),
        code=code,
        retryable=bool(error.get("retryable", False)),
        details=error.get("details") or (),
        job_id=reply.get("job_id"),
    )
