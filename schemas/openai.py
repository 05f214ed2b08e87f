"""The images API of OpenAI, as far as this service can keep it: its bodies and its errors."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas.base import Contract, JobId
from schemas.errors import ERRORS, ErrorCode, Problem
from schemas.request import MAX_SEED, WHOLE, OutputFormat, Prompt, sentence, suggestion
from schemas.sizes import LISTED_SIZES_TEXT, MAX_SIDE, MIN_SIDE

MAX_PICTURES = 10
"""Of one request, as OpenAI's own; each is a job with a place of its own in the queue."""

_SIDE = r"(25[6-9]|2[6-9][0-9]|[3-9][0-9]{2}|1[0-4][0-9]{2}|15[0-2][0-9]|153[0-6])"
"""MIN_SIDE to MAX_SIDE in digits."""
SIZE_PATTERN = rf"^(auto)?$|^{_SIDE}x{_SIDE}$"


def _boolean(value: object) -> object:
    """To Python 0 is False; to JSON it is a number."""
    if not isinstance(value, bool):
        raise PydanticCustomError("bool_type", "This must be true or false.")
    return value


Size = Annotated[str, Field(pattern=SIZE_PATTERN)]
No = Annotated[Literal[False], BeforeValidator(_boolean)]
Nothing = Annotated[int, Field(ge=0, le=0), WHOLE]


class ImagesRequest(Contract):
    """Pictures, please, as `POST /v1/images/generations` has it. Fields that are not here are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: Prompt
    """What to draw, in plain words; at most 512 tokens of the model."""
    model: str | None = None
    """Any name: the service has one model and draws with that."""
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES), WHOLE] | None = None
    """Pictures, 1 if not given: all of them are drawn, or none is answered."""
    size: Size | None = None
    """`WIDTHxHEIGHT` in pixels, each side within 256 to 1536, or `auto` for the service's own."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE] | None = None
    """Of the first picture; the next ones have the seeds that follow, 0 after the largest."""
    quality: str | None = None
    """Has no effect: there is one quality."""
    background: Literal["auto", "opaque"] | None = None
    """Always opaque."""
    output_format: OutputFormat | None = None
    """The codec of the pictures; `png` if not given."""
    response_format: Literal["b64_json", "url"] | None = None
    """The answer is `b64_json` either way: no URL is served."""
    stream: No | None = None
    """Pictures are not streamed."""
    partial_images: Nothing | None = None
    """There are none."""
    user: str | None = None
    """Has no effect, and is not kept."""

    @property
    def sides(self) -> tuple[int, int] | None:
        """Return (width, height) in pixels; None where the service may choose."""
        if self.size in {None, "", "auto"}:
            return None
        width, height = str(self.size).split("x")
        return int(width), int(height)


class Picture(Contract):
    """One picture of an answer."""

    b64_json: str
    seed: int
    """Asked for again, it gives the same picture."""
    job_id: JobId
    """Names its job, which stands at `/job/{job_id}` as any other."""


class ImagesResponse(Contract):
    """The answer to `POST /v1/images/generations`."""

    created: int
    """Seconds since 1970."""
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat
    size: Annotated[str, Field(pattern=r"^[0-9]+x[0-9]+$")]
    """As drawn."""
    data: tuple[Picture, ...]


class Model(Contract):
    """A model that draws here."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the service began to offer it, in seconds since 1970."""
    owned_by: Literal["imagegen"] = "imagegen"


class ModelList(Contract):
    """The answer to `GET /v1/models`; empty until the model was loaded for the first time."""

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]


class OpenAIErrorInfo(Contract):
    """What went wrong, in the shape of OpenAI's errors."""

    message: str
    """What happened this time, with the remedy."""
    type: ErrorType
    param: str | None
    """The field or header that is meant."""
    code: ErrorCode
    """Ours, as in every other answer of the service."""


class OpenAIError(Contract):
    """An error of the pages under `/v1`."""

    error: OpenAIErrorInfo


_TYPES: dict[int, ErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def status_of(code: ErrorCode) -> int:
    """Return the HTTP status of an error here: as everywhere, but for a full queue.

    OpenAI's clients have a typed error for 429, and take 503 for a service that is broken.
    """
    return 429 if code is ErrorCode.BUSY else ERRORS[code].http_status


def type_of(code: ErrorCode) -> ErrorType:
    """Return the type of an error, which is that of its status."""
    status = status_of(code)
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def parse_images(body: bytes) -> ImagesRequest | tuple[Problem, ...]:
    """Return the request that a body holds, or every problem of it as a sentence with a suggestion."""
    try:
        return ImagesRequest.model_validate_json(body)
    except ValidationError as error:
        return tuple(_problem(details) for details in error.errors(include_url=False))


def _problem(details: ErrorDetails) -> Problem:
    field = str(details["loc"][0]) if details["loc"] else "body"
    if field == "body":
        broken = details["type"] == "json_invalid"
        problem = f"{details['msg']}." if broken else "The body is no JSON object."
        return Problem(field=field, problem=problem, suggestion='send {"prompt": "..."}')
    if field in _REFUSED:
        problem, remedy = _REFUSED[field]
        return Problem(field=field, problem=problem, suggestion=remedy)
    return Problem(field=field, problem=sentence(details), suggestion=_suggestion(field))


def _suggestion(field: str) -> str | None:
    return _SUGGESTIONS.get(field) or suggestion(field)


_SUGGESTIONS = {
    "n": f"a whole number within 1 to {MAX_PICTURES}; ask again for more",
    "model": "a name, or leave it out",
    "quality": "auto, or leave it out",
    "user": "a name, or leave it out",
}
_REFUSED = {
    "size": (
        "This is no size that can be drawn.",
        f"auto, {LISTED_SIZES_TEXT}, or WIDTHxHEIGHT with sides within {MIN_SIDE} to {MAX_SIDE}",
    ),
    "background": ("The background is always opaque.", "auto, opaque, or leave it out"),
    "response_format": ("The answer is always b64_json.", "b64_json, or leave it out"),
    "stream": ("Pictures are not streamed.", "false, or leave it out"),
    "partial_images": ("There are no partial pictures.", "0, or leave it out"),
}
"""What can be wrong with these in one way only, and what to send instead."""
