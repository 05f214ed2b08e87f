"""The news: progress of the jobs that are followed, handed on as it comes; best effort."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from imagegen_client.dial import LINK_ERRORS, Line
from imagegen_client.image import Progress

log = logging.getLogger(__name__)

EVENTS = "imagegen.events"
EVERY_JOB = None
"""In the place of a job id: the news of all jobs."""
BIND_TIMEOUT_S = 1.0

Listener = Callable[[Progress], None]


class News:
    """A queue of events on one connection after the other, bound to the jobs that are followed."""

    def __init__(self) -> None:
        self._listeners: dict[str | None, list[Listener]] = {}
        self._line: Line | None = None
        self._queue: AbstractQueue | None = None
        self._bound: set[str | None] = set()
        self._turn = asyncio.Lock()
        self._chores: set[asyncio.Task[None]] = set()

    async def open(self, line: Line) -> None:
        """Listen on this connection; a user without the right to gets pictures all the same."""
        self.close()
        try:
            channel = await line.connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue("", exclusive=True)
            await queue.consume(self._take, no_ack=True)
        except aio_pika.exceptions.ChannelClosed:
            return
        self._line, self._queue = line, queue
        # Of hundreds of jobs that takes longer than a session may take to stand.
        await self._in_background(self._bind_all())

    def close(self) -> None:
        """Hear nothing more from this connection. May be called twice."""
        self._line = self._queue = None
        self._bound.clear()

    async def follow(self, job_id: str | None, listener: Listener) -> None:
        """Have news of a job, or of EVERY_JOB, handed over, over reconnects too.

        Who listens to a job and to all is told each piece once.
        """
        self._listeners.setdefault(job_id, []).append(listener)
        await self._bind(job_id)

    async def unfollow(self, job_id: str | None, listener: Listener) -> None:
        """Undo `follow`. Raises ValueError where it was not called before."""
        listeners = self._listeners.get(job_id, [])
        listeners.remove(listener)
        if not listeners:
            del self._listeners[job_id]
            await self._unbind(job_id)

    async def _bind_all(self) -> None:
        for job_id in tuple(self._listeners):
            await self._bind(job_id)

    async def _bind(self, job_id: str | None) -> None:
        async def bind(queue: AbstractQueue) -> None:
            if job_id not in self._bound and job_id in self._listeners:
                await queue.bind(EVENTS, _topic(job_id))
                if queue is self._queue:  # not that of a connection which was lost meanwhile
                    self._bound.add(job_id)

        await self._change(bind)

    async def _unbind(self, job_id: str | None) -> None:
        async def unbind(queue: AbstractQueue) -> None:
            if job_id in self._bound and job_id not in self._listeners:
                self._bound.discard(job_id)
                await queue.unbind(EVENTS, _topic(job_id))

        await self._change(unbind)

    async def _change(self, change: Callable[[AbstractQueue], Awaitable[None]]) -> None:
        """Change a binding: a call that is cut off closes the channel of all."""
        await self._in_background(self._changed(change))

    async def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done in a task of its own, and wait for it for a moment."""
        chore = asyncio.get_running_loop().create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)
        await asyncio.wait({chore}, timeout=BIND_TIMEOUT_S)

    async def _changed(self, change: Callable[[AbstractQueue], Awaitable[None]]) -> None:
        """One after the other: a job may be followed again meanwhile."""
        with contextlib.suppress(*LINK_ERRORS):
            async with self._turn:
                line, queue = self._line, self._queue
                # While the broker reads nothing it would only cost the channel.
                if line is not None and queue is not None and not await line.blocked():
                    await change(queue)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            event = json.loads(message.body)
            progress = Progress(
                event["job_id"], event["state"], int(event["step"]), int(event["steps"])
            )
            listeners = [
                *self._listeners.get(progress.job_id, ()),
                *self._listeners.get(EVERY_JOB, ()),
            ]
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            return  # no news of ours
        for listener in dict.fromkeys(listeners):
            try:
                listener(progress)
            except Exception:  # its defect is not to cost the others their news
                log.exception("A listener to the news failed.")


def _topic(job_id: str | None) -> str:
    return "job.#" if job_id is EVERY_JOB else f"job.*.{job_id}"
