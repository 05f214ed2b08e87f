"""The studio: has pictures drawn by the service, and writes down what becomes of each."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Self

from examples.chat.gallery import Gallery, Picture
from examples.chat.tabs import Step, Tabs
from imagegen_client import (
    Cancelled,
    GeneratedImage,
    ImageClient,
    ImageError,
    NotFound,
    Retry,
    Unavailable,
)

log = logging.getLogger(__name__)

ONCE = Retry(attempts=1)
"""A user who is told at once may do something else meanwhile."""
UNTIL_ITS_DEADLINE = Retry(attempts=10_000, most_s=10.0)
"""Of a picture that was asked for before we were started: it may be drawn this moment."""
WRITE_AGAIN_S = 1.0
LOOK_S, LOOK_AGAIN_S = 300.0, 1.0
"""For a service to come that knows what was drawn: a model takes minutes to load."""
FETCH_S = 60.0
"""For a picture that was drawn while we were away, and its deadline passed."""


class Studio:
    """Sees each picture through, in a task of its own."""

    def __init__(self, client: ImageClient, gallery: Gallery, tabs: Tabs) -> None:
        self._client = client
        self._gallery = gallery
        self._tabs = tabs
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._called_off: set[str] = set()
        self._group = asyncio.TaskGroup()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Take work, first what was under way when the last studio closed.

        At the end the pictures go on at the service. The client is not closed: that would remove
        its reply queue, and the service stops what nobody waits for. So the queue stays for five
        minutes, and whoever opens next asks for the same jobs again, which draws nothing twice.
        """
        async with self._group:
            for picture in self._gallery.under_way():
                self._begin(picture, again=True)
            try:
                yield self
            finally:
                for task in self._tasks.values():
                    task.cancel()

    def draw(self, picture: Picture) -> None:
        """Have a picture drawn."""
        self._begin(picture, again=False)

    def call_off(self, id_: str) -> bool:
        """Have a picture drawn no more; returns False where it is over already."""
        task = self._tasks.get(id_)
        if task is None or not self._gallery.cancel(id_):
            return False
        self._called_off.add(id_)
        task.cancel()
        self._tabs.wake(self._gallery.named(id_).user)
        return True

    def _begin(self, picture: Picture, *, again: bool) -> None:
        task = self._group.create_task(self._see_through(picture, again=again))
        self._tasks[picture.id] = task

    async def _see_through(self, picture: Picture, *, again: bool) -> None:
        """Have it end in the gallery."""
        try:
            await _insist(await self._end(picture, again=again))
        finally:
            self._tasks.pop(picture.id, None)
            self._called_off.discard(picture.id)
            self._tabs.forget(picture.id)
        self._tabs.wake(picture.user)

    async def _end(self, picture: Picture, *, again: bool) -> Callable[[], object]:
        """Return what writes down how it ended: the one place where errors become what is told."""
        gallery, id_ = self._gallery, picture.id
        try:
            image = await self._drawn(picture, again=again)
        except Cancelled:
            return lambda: gallery.cancel(id_)
        except ImageError as error:
            return partial(gallery.fail, id_, error.code, _told(error))
        except Exception:
            log.exception("A defect of the chat ended picture %s.", id_)
            return lambda: gallery.fail(id_, "internal", "")
        return lambda: gallery.keep(id_, image)

    async def _drawn(self, picture: Picture, *, again: bool) -> GeneratedImage:
        """Ask for it, and wait. Leaving the block while it runs calls it off at the service."""
        order = picture.order
        deadline_s = (picture.deadline_at - datetime.now(tz=UTC)).total_seconds()
        if deadline_s <= 0:
            await self._check_drawn(picture.id)
            deadline_s = FETCH_S
        async with self._client.submit(
            order.prompt,
            job_id=picture.id,
            deadline_s=deadline_s,
            retry=UNTIL_ITS_DEADLINE if again else ONCE,
            width=order.width,
            height=order.height,
            seed=order.seed,
        ) as job:
            try:
                async for progress in job:
                    self._follow(picture, Step(picture.id, progress.step, progress.steps))
                return await job.result()
            except asyncio.CancelledError:
                if picture.id not in self._called_off:
                    job.leave()
                raise

    async def _check_drawn(self, id_: str) -> None:
        """Raise where a picture whose deadline passed while we were away was not drawn."""
        drawn = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                drawn = await self._was_drawn(id_)
        if not drawn:
            raise ImageError("Its deadline passed.", code="deadline_exceeded")

    async def _was_drawn(self, id_: str) -> bool:
        """Ask once somebody is there to say: broker and service may start just as we do.

        Who does not know a job is silent, and so is a service that is away.
        """
        while True:
            try:
                await self._client.jobs(limit=1)
                return (await self._client.status(id_)).status == "succeeded"
            except NotFound:
                return False
            except Unavailable:
                log.warning("Nobody is there to say whether picture %s was drawn.", id_)
                await asyncio.sleep(LOOK_AGAIN_S)

    def _follow(self, picture: Picture, step: Step) -> None:
        # That it is being drawn is news of the moment: the next step tries again.
        with contextlib.suppress(sqlite3.Error):
            self._gallery.begin(picture.id)
        self._tabs.tell(picture.user, step)


async def _insist(write: Callable[[], object]) -> None:
    """Write, however long it takes: a file that is locked, or a disk that is full, is so for a time.

    A chat that ends meanwhile asks again when it starts, and is answered from the service's store.
    """
    while True:
        try:
            write()
        except sqlite3.Error as error:
            log.warning("A picture waits to be written down: %s", error)
            await asyncio.sleep(WRITE_AGAIN_S)
        else:
            return


def _told(error: ImageError) -> str:
    """Return what the service says of a wish that is at fault; of other errors, nothing."""
    if error.code not in {"invalid_request", "request_too_large"}:
        return ""
    details = (f"{item.get('field')}: {item.get('problem')}" for item in error.details)
    return " ".join(details) or error.message
