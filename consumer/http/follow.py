"""The follow: the life of one job as server-sent events, from where it stands to its end."""

import asyncio
from collections.abc import AsyncIterator

from consumer.http.face import Face
from consumer.http.problems import ProblemError
from consumer.store import StoreLostError
from schemas.status import ENDED, JobStatus

LOOK_EVERY_S = 2.0
"""News may be lost, and a place in the queue changes without any."""
STILL_HERE_EVERY_S = 15.0
"""So that nothing on the way takes the connection for dead."""
STILL_HERE = ": still here\n\n"


async def follow(face: Face, first: JobStatus) -> AsyncIterator[str]:
    """Give an event for every change of a job, the first at once, the last for its end.

    The stream of a job that is forgotten ends without: it was never published after all.
    """
    told, number, silent_s = first, 1, 0.0
    yield _event(first, None, number)
    with face.heard.following(first.job_id) as bell:
        while told.status not in ENDED:
            face.attend(first.job_id)
            rang = await _wait(bell)
            silent_s = 0.0 if rang else silent_s + LOOK_EVERY_S
            try:
                current = await _look(face, told)
            except ProblemError:
                return
            if _changed(told, current):
                number, silent_s = number + 1, 0.0
                yield _event(current, told, number)
                told = current
            elif silent_s >= STILL_HERE_EVERY_S:
                silent_s = 0.0
                yield STILL_HERE


async def _wait(bell: asyncio.Event) -> bool:
    """Wait for news of the job, or until it is time to look anyway."""
    try:
        async with asyncio.timeout(LOOK_EVERY_S):
            await bell.wait()
    except TimeoutError:
        return False
    bell.clear()
    return True


async def _look(face: Face, told: JobStatus) -> JobStatus:
    """Look where the job stands; while the store is away, as it was. ProblemError: nowhere."""
    try:
        return await face.status(told.job_id)
    except StoreLostError:
        return told


def _changed(told: JobStatus, current: JobStatus) -> bool:
    """Whether there is something to tell: the wait alone, which shrinks all the time, is not."""
    same_wait = {"estimated_wait": None}
    return told.model_copy(update=same_wait) != current.model_copy(update=same_wait)


def _event(status: JobStatus, before: JobStatus | None, number: int) -> str:
    steps = before is not None and before.status == status.status == "running"
    name = "step" if steps else status.status
    return f"id: {number}\nevent: {name}\ndata: {status.model_dump_json()}\n\n"
