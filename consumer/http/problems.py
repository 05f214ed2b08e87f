"""The problems: an error that a caller of the job API is told, and how it is told."""

import math
from collections.abc import Mapping

from starlette.responses import Response

from consumer.errors import Fault
from imagegen_client import ImageError
from schemas.errors import ERRORS, ErrorCode, ErrorInfo, Problem
from schemas.http import ProblemDetails

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5.0
"""Where nothing better is known."""

_WITH_RETRY_AFTER = frozenset({503, 409})


class ProblemError(Exception):
    """Ends a request with this fault."""

    def __init__(
        self,
        fault: Fault,
        *,
        job_id: str | None = None,
        retry_after_s: float = RETRY_AFTER_S,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.job_id = job_id
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})


def invalid(field: str, problem: str, suggestion: str) -> ProblemError:
    """Return the error for one header or parameter that is wrong."""
    detail = Problem(field=field, problem=problem, suggestion=suggestion)
    message = f"{field}: {problem} ({suggestion})"
    return ProblemError(Fault(ErrorCode.INVALID_REQUEST, message, (detail,)))


def response(error: ProblemError) -> Response:
    """Return an error as RFC 9457 has it."""
    fault = error.fault
    spec = ERRORS[fault.code]
    body = ProblemDetails(
        type=f"/docs#{fault.code.value}",
        title=spec.meaning,
        status=spec.http_status,
        detail=fault.message,
        code=fault.code,
        retryable=spec.retryable,
        details=fault.details,
        job_id=error.job_id,
    )
    headers = dict(error.headers)
    if spec.retryable and spec.http_status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(
        body.model_dump_json(), spec.http_status, headers=headers, media_type=MEDIA_TYPE
    )


def fault_of(error: ImageError) -> Fault:
    """Return what the client raised as a fault."""
    try:
        code = ErrorCode(error.code)
        details = tuple(Problem.model_validate(dict(detail)) for detail in error.details)
    except ValueError:
        return Fault(ErrorCode.INTERNAL, error.message)
    return Fault(code, error.message, details)


def fault_from(info: ErrorInfo) -> Fault:
    """Return the error that a job ended with as a fault."""
    return Fault(info.code, info.message, info.details)
