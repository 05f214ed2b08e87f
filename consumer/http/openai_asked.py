"""The OpenAI asked: a request for several pictures as the jobs that it makes."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid5

from starlette.requests import Request

from consumer.admission import Limits
from consumer.errors import Fault
from consumer.http.asked import Asked, asked_for, enveloped
from consumer.http.problems import ProblemError
from schemas.errors import ErrorCode
from schemas.openai import ImagesRequest, parse_images
from schemas.request import MAX_SEED, GenerationRequest

_NAMESPACE = UUID("0e2a1d3c-6a0c-5d5e-9a53-6a7c4f1f0b24")
"""Of the job ids that are not the key itself; any constant will do, this one is ours."""

CalledOff = Callable[[str], Awaitable[bool]]
"""Whether the job with an id was called off, which it stays."""


async def asked_pictures(
    request: Request, limits: Limits, called_off: CalledOff
) -> list[Asked]:
    """Read a request for pictures.

    Raises:
        ProblemError: something is wrong with it.
        ClientGoneError: it was never finished.
    """
    envelope = await enveloped(request, limits)
    wanted = parse_images(envelope.body)
    if isinstance(wanted, tuple):
        first = wanted[0]
        message = f"{first.field}: {first.problem} ({first.suggestion})"
        raise ProblemError(Fault(ErrorCode.INVALID_REQUEST, message, wanted))
    pictures = [_picture(wanted, number) for number in range(wanted.n or 1)]
    known = _of_nothing if envelope.is_new else called_off
    ids = [await _free_id(envelope.key, *named, known) for named in enumerate(pictures)]
    return [
        asked_for(picture, job_id, envelope.deadline_s, limits, raw=False)
        for job_id, picture in zip(ids, pictures, strict=True)
    ]


async def _of_nothing(_: str) -> bool:
    """Tell of a key that nobody had that nothing was called off under it: no look at the store."""
    return False


async def _free_id(
    key: str, number: int, picture: GenerationRequest, called_off: CalledOff
) -> str:
    """Return the id of a picture's job: of the first turn that was not called off.

    Pictures are called off with one that cannot be had, and the caller may be told to come back:
    under its key it would find nothing but what stays called off.
    """
    turn = 0
    while await called_off(_job_id(key, number, picture, turn)):
        turn += 1
    return _job_id(key, number, picture, turn)


def _job_id(key: str, number: int, picture: GenerationRequest, turn: int = 0) -> str:
    """Return the id of a picture's job: the first one's is the key, so that one picture is as any job.

    The others have what is asked for in theirs: a key that is used again for something else is a
    conflict by the first, before or after others were begun, which must be in nobody's way.
    """
    if number == turn == 0:
        return key
    return str(uuid5(_NAMESPACE, f"{key}/{number}/{turn}/{picture.model_dump_json()}"))


def _picture(wanted: ImagesRequest, number: int) -> GenerationRequest:
    """Return the request for one of the pictures, the first being number 0."""
    width, height = wanted.sides or (None, None)
    return GenerationRequest(
        prompt=wanted.prompt,
        width=width,
        height=height,
        seed=None if wanted.seed is None else (wanted.seed + number) % (MAX_SEED + 1),
        output_format=wanted.output_format or "png",
    )
