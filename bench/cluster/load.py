"""The load: so many pictures asked for by clients that know all nodes, each answer in the books."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

from bench.chaos.job import Job
from bench.chaos.ledger import Ledger
from bench.chaos.library import Library
from bench.chaos.wait import until
from imagegen_client import ImageClient

CLIENTS = 4
"""Each a chat backend of its own, with a connection and a reply queue."""
CALLERS_EACH = 3
"""Fewer than the bound of the queue in all: nobody is to be refused."""
DRAW_S = (0.1, 0.5)
SEEDS = 1 << 24


@dataclass(slots=True)
class Load:
    """Callers at work, until so many requests have been asked for."""

    ledger: Ledger
    dice: random.Random
    patience_s: float
    most: int
    answered_at: list[float] = field(default_factory=list)
    """Monotonic seconds of every answer."""
    _asked: int = 0

    async def keep_asking(self, library: Library) -> None:
        """Ask for one picture after another."""
        while self._asked < self.most:
            self._asked += 1
            words = f"draw={self.dice.uniform(*DRAW_S):.3f}"
            job = Job(f"cluster-{self._asked}", self.dice.randrange(SEEDS), words)
            await library.ask(job, self.patience_s)
            self.answered_at.append(time.monotonic())

    async def answered(self, count: int) -> None:
        """Return once so many requests were answered, one way or the other."""
        enough = await until(lambda: len(self.answered_at) >= count, self.patience_s)
        if not enough:
            raise RuntimeError(f"{len(self.answered_at)} answers, not {count}")

    def silence_s(self, since: float, until: float) -> float:
        """Return the longest time without an answer between two moments, in seconds."""
        times = [since, *(at for at in self.answered_at if since < at < until), until]
        return max(after - before for before, after in pairwise(times))


@contextlib.asynccontextmanager
async def loaded(urls: str, most: int, patience_s: float, seed: int) -> AsyncIterator[Load]:
    """Have the callers at work; at the end of the block all have their answers."""
    ledger = Ledger()
    load = Load(ledger, random.Random(seed), patience_s, most)  # noqa: S311 - no secret
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ImageClient(urls)) for _ in range(CLIENTS)]
        for client in clients:
            await client.ready()
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                for _ in range(CALLERS_EACH):
                    tasks.create_task(load.keep_asking(Library(client, ledger)))
            yield load
