"""The store: jobs and their results, so that a redelivery is answered and not drawn again."""

import functools
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from consumer.errors import Fault
from consumer.job import IdSource, Job, Outcome
from consumer.store import lookup, notes, records, retention, waiting
from consumer.store.begun import Begun, Conflict, Known, Started
from consumer.store.database import Database, kind_of, now_ms
from consumer.store.lookup import Line, Record, Wanted
from consumer.store.tables import Desk, tables

T = TypeVar("T")

RENEW_EVERY_S = 3.0
"""Seconds between two calls of `renew`: three may fail before a lease ends."""

SHRINK_STEPS = 64
"""The most that one `prune` gives back to the disk: 64 steps of 4 MiB."""


class Store:
    """Jobs in a SQL database. Every method raises StoreLostError if that does not serve us."""

    def __init__(
        self, url: str, owner: str, *, clock: Callable[[Connection], int] = now_ms
    ) -> None:
        """Touch nothing yet.

        `owner` is this boot of this service and nobody else, ever; `clock` gives milliseconds.
        """
        self._owner = owner
        self._clock = clock
        self._running: set[str] = set()
        self._kind = kind_of(url, owner)
        self._database = Database(self._kind, tables)

    async def open(self) -> None:
        """Connect, and create the tables where they are missing."""
        await self._database.transaction(lambda _: None)

    async def close(self) -> None:
        """Finish what is under way, disconnect, and leave our jobs to whoever wants them."""
        await self._database.close()

    async def begin(self, job: Job, *, redelivered: bool) -> Begun:
        """Start a job, or return what stands in the way; one transaction.

        An id that we derived is looked up on a redelivery only: two requests with the same
        correlation id and body are two requests. While one of them runs, the other joins it.
        A job that our own owner runs is started again: its end was lost on the way to us.
        """
        looked_up = job.id_source is IdSource.GIVEN or redelivered
        step = functools.partial(records.begin, job, looked_up)
        try:
            begun = await self._step(step)
        except IntegrityError:
            # Another consumer began the same job in the same moment; now its row is there.
            begun = await self._step(step)
        if isinstance(begun, Started):
            self._running.add(job.id)
        return begun

    async def renew(self) -> None:
        """Prolong the lease of every job that was started here and is not being finished.

        A start whose answer was lost on the way is none of these: somebody else may have it soon.
        """
        running = list(self._running)

        def step(desk: Desk) -> None:
            self._kind.keep_alive()
            records.renew(running, desk)

        await self._step(step)

    async def finish(self, job_id: str, outcome: Outcome) -> bool:
        """Write down how a job ended; from now on that is what a redelivery is answered with.

        The first end counts: False if the job has ended, was given back, or runs under somebody
        else's live lease, whose end it will be; `begin` tells which. Who holds no lease may write
        the end where nobody does: that picture is better than none. After a StoreLostError it may
        be called again; the lease is not renewed meanwhile.
        """
        self._running.discard(job_id)
        return await self._step(functools.partial(records.finish, job_id, outcome))

    async def count_death(self, job_id: str) -> int:
        """Count one death or hang of the GPU process in this job; return how many there were."""
        return await self._step(functools.partial(records.count_death, job_id))

    async def remember_cancel(self, job_id: str, user_id: str | None, *, any_job: bool) -> bool:
        """Let a job die on its next start, if it is this user's or `any_job` may be called off.

        True if it waited for its turn and so has ended. A job that has ended keeps its end.
        """
        step = functools.partial(notes.remember_cancel, job_id, user_id, any_job)
        return await self._step(step)

    # ------------------------------------------------------------ for who asks and follows

    async def enqueue(self, job: Job) -> Known | Conflict | None:
        """Write down that a job waits, before it is published; None if nobody knew of it."""
        step = functools.partial(waiting.enqueue, job)
        try:
            return await self._step(step)
        except IntegrityError:
            # Somebody else asked for the same in the same moment.
            return await self._step(step)

    async def withdraw(self, job_id: str, fault: Fault) -> None:
        """Undo `enqueue`: the job was not published.

        One that somebody took or asked for meanwhile stays; one that was run before ends with
        this fault.
        """
        await self._step(functools.partial(waiting.withdraw, job_id, fault))

    async def close_waiting(self, job_id: str, body_sha256: str, outcome: Outcome) -> bool:
        """Write the end of a job that waits; False if none waits under this id and body."""
        return await self._step(functools.partial(waiting.close, job_id, body_sha256, outcome))

    async def find(self, job_id: str) -> Record | None:
        """Return what is known of a job."""
        return await self._look(functools.partial(lookup.find, job_id))

    async def picture(self, job_id: str) -> bytes | None:
        """Return the picture of a job, while it is kept."""
        return await self._look(functools.partial(lookup.picture, job_id))

    async def recent(self, wanted: Wanted) -> list[Record]:
        """Return some jobs, the newest first."""
        return await self._look(functools.partial(lookup.recent, wanted))

    async def line(self) -> Line:
        """Return what waits and what runs."""
        return await self._look(lookup.line)

    # ------------------------------------------------------------ answers

    async def answered(self, job_id: str, address: str) -> None:
        """Write down that the broker confirmed our answer to this address."""
        await self._step(functools.partial(notes.answered, job_id, address))

    async def was_answered(
        self, job_id: str, address: str, *, redelivered: bool = True
    ) -> bool:
        """Whether a redelivery from this address has its answer to the latest run of the job.

        A request that is no redelivery is a new one: it is answered, and so are its redeliveries.
        """
        step = functools.partial(notes.was_answered, job_id, address, redelivered)
        return await self._step(step)

    async def probe(self) -> None:
        """Write a page to the disk and take it back."""
        # Into an empty log: in an old one there may be room although the disk has none.
        await self._database.run(self._kind.checkpoint)
        await self._step(notes.probe)

    async def prune(self, ttl_s: int, max_bytes: int) -> int:
        """Remove what is older than `ttl_s` and the oldest results beyond `max_bytes`.

        In many small transactions, between which others have their turn. Returns how many jobs
        were removed.
        """
        removed = 0
        for step in (
            functools.partial(retention.remove_old, ttl_s),
            functools.partial(retention.make_room, max_bytes),
        ):
            while batch := await self._step(step):
                removed += batch
        while await self._step(functools.partial(retention.remove_traces, ttl_s)):
            pass
        await self._shrink()
        return removed

    async def _shrink(self) -> None:
        for _ in range(SHRINK_STEPS):
            if not await self._database.run(self._kind.shrink):
                break
        await self._database.run(self._kind.checkpoint)

    async def _look(self, work: Callable[[Desk], T]) -> T:
        return await self._step(work, writes=False)

    async def _step(self, work: Callable[[Desk], T], *, writes: bool = True) -> T:
        def step(connection: Connection) -> T:
            return work(Desk(connection, self._owner, self._clock, self._kind.alive))

        return await self._database.transaction(step, writes=writes)
