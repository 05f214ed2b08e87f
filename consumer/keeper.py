"""The keeper: tends the store. Renews leases, prunes, and knows whether anything can be written."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from consumer.job import Job, Outcome
from consumer.logs import logger
from consumer.store import (
    RENEW_EVERY_S,
    Begun,
    Line,
    Record,
    Store,
    StoreLostError,
    Wanted,
)

log = logger(__name__)

T = TypeVar("T")

LOST = (StoreLostError, SQLAlchemyError)
"""Beside a store that is away, one that refuses what it took before: a table or a right is gone."""
PROBE_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
LATE_MOST = 1000
"""Ends of jobs and cancels that wait for the store; beyond it the newest are dropped."""
LATE_TRIES = 3
"""Of each, once the store can be written again: its job may be gone meanwhile."""


class Keeper:
    """The way to the store for all who work on jobs.

    While the database is away or its disk is full, `healthy` is false and no work is begun. What
    is in hand goes on: its answer is sent, and its end is written down once the store is back.
    """

    def __init__(self, store: Store, on_change: Callable[[], None]) -> None:
        self._store = store
        self._on_change = on_change
        self._late: list[tuple[Callable[[], Awaitable[object]], int]] = []
        """What is to be written, and how often that was tried."""
        self._lost = asyncio.Event()
        self.problem: str | None = None

    @property
    def healthy(self) -> bool:
        """The store took the last thing that was to be written."""
        return not self._lost.is_set()

    # ------------------------------------------------------------ for jobs

    async def begin(self, job: Job, *, redelivered: bool) -> Begun:
        """Start a job, or tell what became of it. Raises StoreLostError."""
        try:
            return await self._store.begin(job, redelivered=redelivered)
        except StoreLostError as error:
            self._lose(error)
            raise

    async def finish(self, job_id: str, outcome: Outcome) -> bool:
        """Write the end of a job down, now or later; False if it had another end already."""
        return await self._now_or_later(lambda: self._store.finish(job_id, outcome), late=True)

    async def count_death(self, job_id: str, known: int) -> int:
        """Count a death of the GPU process in this job; `known` is how many there were."""

        async def count() -> int:
            return await self._store.count_death(job_id)

        return await self._now_or_later(count, late=known + 1)

    async def remember_cancel(self, job_id: str, user_id: str | None, *, any_job: bool) -> bool:
        """Let a job that was not seen yet die on arrival, if this user may have that.

        True if it waited for its turn and so has ended.
        """
        return await self._now_or_later(
            lambda: self._store.remember_cancel(job_id, user_id, any_job=any_job), late=False
        )

    async def close_waiting(self, job_id: str, body_sha256: str, outcome: Outcome) -> bool:
        """Write the end of a job that waits, now or later; False if none does."""
        return await self._now_or_later(
            lambda: self._store.close_waiting(job_id, body_sha256, outcome), late=False
        )

    async def answered(self, job_id: str, address: str) -> None:
        """Note that the broker confirmed our answer to this address."""
        await self._now_or_later(lambda: self._store.answered(job_id, address), late=None)

    async def was_answered(self, job_id: str, address: str, *, redelivered: bool) -> bool:
        """Whether that was noted, for a redelivery; False where the store cannot tell."""
        try:
            return await self._store.was_answered(job_id, address, redelivered=redelivered)
        except StoreLostError as error:
            self._lose(error)
            return False

    async def find(self, job_id: str) -> Record | None:
        """Return what is known of a job. Raises StoreLostError."""
        return await self._store.find(job_id)

    async def recent(self, wanted: Wanted) -> list[Record]:
        """Return some jobs, the newest first. Raises StoreLostError."""
        return await self._store.recent(wanted)

    async def line(self) -> Line:
        """Return what waits and what runs. Raises StoreLostError."""
        return await self._store.line()

    async def _now_or_later(self, write: Callable[[], Awaitable[T]], late: T) -> T:
        """Write now and return what the store says; else remember it, and return `late`."""
        try:
            return await write()
        except StoreLostError as error:
            self._lose(error)
            if len(self._late) < LATE_MOST:
                self._late.append((write, 0))
            return late

    # ------------------------------------------------------------ tend

    async def renew(self) -> None:
        """Keep the leases of our running jobs alive, for ever."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if self.healthy:
                try:
                    await self._store.renew()
                except LOST as error:
                    self._lose(error)

    async def recover(self) -> None:
        """Whenever the store was lost, wait until it can be written again; for ever."""
        while True:
            await self._lost.wait()
            await asyncio.sleep(PROBE_EVERY_S)
            try:
                await self._store.probe()
                await self._catch_up()
            except LOST as error:
                self.problem = str(error)
                continue
            self.problem = None
            self._lost.clear()
            self._on_change()
            log.info("store_back")

    async def prune(self, ttl_s: int, max_bytes: int) -> None:
        """Remove results that are too old or too many, once a minute, for ever."""
        while True:
            if self.healthy:
                try:
                    removed = await self._store.prune(ttl_s, max_bytes)
                    log.debug("results_pruned", jobs=removed)
                except LOST as error:
                    self._lose(error)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def _catch_up(self) -> None:
        """Write what could not be written; the first end of a job counts, also now."""
        await self._store.renew()
        while self._late:
            write, tries = self._late.pop(0)
            try:
                await write()
            except LOST:
                if tries + 1 < LATE_TRIES:
                    self._late.append((write, tries + 1))
                raise

    def _lose(self, error: Exception) -> None:
        self.problem = str(error)
        if self.healthy:
            self._lost.set()
            self._on_change()
            log.error("store_lost", problem=self.problem)
