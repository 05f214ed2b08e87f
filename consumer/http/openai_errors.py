"""The OpenAI errors: an error as OpenAI's clients read it, on the pages under `/v1`."""

from starlette.responses import Response

from consumer.http import problems
from consumer.http.problems import ProblemError
from schemas.openai import OpenAIError, OpenAIErrorInfo, status_of, type_of

PREFIX = "/v1"

_PARAMETERS = {"width": "size", "height": "size"}
"""What a field of ours is called there."""


def told(path: str, error: ProblemError) -> Response:
    """Return an error in the shape of the page that was asked for, wherever it arose."""
    theirs = path == PREFIX or path.startswith(f"{PREFIX}/")
    return response(error) if theirs else problems.response(error)


def response(error: ProblemError) -> Response:
    """Return an error as OpenAI has it.

    Its clients try again by the status alone, a conflict or a defect too, unless they are told.
    """
    fault = error.fault
    field = fault.details[0].field if fault.details else None
    body = OpenAIError(
        error=OpenAIErrorInfo(
            message=fault.message,
            type=type_of(fault.code),
            param=None if field is None else _PARAMETERS.get(field, field),
            code=fault.code,
        )
    )
    answer = problems.answer(error, body, status_of(fault.code), "application/json")
    answer.headers["X-Should-Retry"] = "true" if fault.retryable else "false"
    return answer
