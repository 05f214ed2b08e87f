"""The OpenAI asked: a request for several pictures as the jobs that it makes."""

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
"""Of the job ids of second and later pictures; any constant will do, this one is ours."""


async def asked_pictures(request: Request, limits: Limits) -> list[Asked]:
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
    return [
        asked_for(
            _picture(wanted, number),
            _job_id(envelope.key, number),
            envelope.deadline_s,
            limits,
            raw=False,
        )
        for number in range(wanted.n or 1)
    ]


def _job_id(key: str, number: int) -> str:
    """Return the id of a picture's job: the first one's is the key, so that one picture is as any job."""
    return key if number == 0 else str(uuid5(_NAMESPACE, f"{key}/{number}"))


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
