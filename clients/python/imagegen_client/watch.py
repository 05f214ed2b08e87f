"""The watch: the state of a job as it changes, from the news of it and from asking now and then."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from imagegen_client.errors import NotFound, Unavailable
from imagegen_client.image import Progress
from imagegen_client.news import News
from imagegen_client.status import ENDED, JobStatus

POLL_S = 2.0
"""News may be lost, and there is none of places in the queue."""
MISSED_MOST = 10
"""Times in a row that nobody need know the job: its service may be on its way back."""

Ask = Callable[[], Awaitable[JobStatus]]


async def watched(job_id: str, news: News, ask: Ask) -> AsyncGenerator[JobStatus]:
    """Give the state of the moment, and then each change until its end.

    Raises:
        NotFound, Unavailable: as `ask`, at first; later only after MISSED_MOST times in a row.
    """
    latest = _Latest()
    try:
        await news.follow(job_id, latest.put)
        status, missed = await ask(), 0
        yield status
        while not status.ended:
            progress = await latest.next(POLL_S)
            try:
                after = advanced(status, progress) or await ask()
            except (NotFound, Unavailable):
                missed += 1
                if missed > MISSED_MOST:
                    raise
                continue
            missed = 0
            if _changed(status, after):
                yield after
            status = after
    finally:
        await news.unfollow(job_id, latest.put)


def advanced(status: JobStatus, progress: Progress | None) -> JobStatus | None:
    """Return the state that a piece of news tells; None where it has to be asked for."""
    if progress is None or progress.state in ENDED:
        return None
    return replace(
        status,
        status="running",
        step=progress.step,
        steps=progress.steps or status.steps,
        position=None,
        estimated_wait=None,
    )


def _changed(before: JobStatus, after: JobStatus) -> bool:
    """Whether there is something to tell; the wait alone, which shrinks all the time, is not."""
    return replace(before, estimated_wait=None) != replace(after, estimated_wait=None)


class _Latest:
    """The latest piece of news, until it is taken."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._came = asyncio.Event()

    def put(self, progress: Progress) -> None:
        self._progress = progress
        self._came.set()

    async def next(self, timeout_s: float) -> Progress | None:
        """Return it; None where there is none for so many seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            return None
        self._came.clear()
        return self._progress
