"""The problems: an error that a caller of the job API is told, and how it is told."""

import asyncio
import contextlib
import math
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from consumer.errors import Fault
from imagegen_client import ImageError
from schemas.base import Contract
from schemas.errors import ERRORS, ErrorCode, ErrorInfo, Problem
from schemas.http import ProblemDetails

MEDIA_TYPE = "application/problem+json"
LINGER_S = 2.0
"""How long the rest of a body that is not wanted is taken and dropped."""
RETRY_AFTER_S = 5.0
"""Where nothing better is known."""

DEFECT = Fault(ErrorCode.INTERNAL, "The service has a defect; its log has the reason.")

_WITH_RETRY_AFTER = frozenset({429, 503, 409})


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


class _Parting(Response):
    """The last answer on a connection, to a request whose body may still be coming.

    Closed at once the kernel resets the connection, and a client that still sends loses the answer.
    """

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


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
    return answer(error, body, spec.http_status, MEDIA_TYPE)


def answer(error: ProblemError, body: Contract, status: int, media_type: str) -> Response:
    """Return an error as this body, with the headers that it has in any shape."""
    headers = dict(error.headers)
    if error.fault.retryable and status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    kind = _Parting if "Connection" in headers else Response
    return kind(body.model_dump_json(), status, headers=headers, media_type=media_type)


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
