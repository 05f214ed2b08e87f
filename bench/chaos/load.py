"""The load: small jobs at a steady rate, asked on the plain wire and through the library beside it."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.job import Job
from bench.chaos.ledger import Face, Ledger
from bench.chaos.library import Library
from bench.chaos.wait import until
from bench.chaos.wire import Wire
from imagegen_client import ImageClient

SEEDS = 1 << 24
MOST_WAITING = {Face.WIRE: 10, Face.LIBRARY: 4}
"""Requests open at once; together with those in hand below the queue's bound of 20."""
PAUSE_S = {Face.WIRE: 0.22, Face.LIBRARY: 0.5}
"""Mean pause between two requests."""
DRAW_S = (0.02, 0.3)
FOR_EVER_S = 3600.0


@dataclass(slots=True)
class Load:
    """Both askers at work, with books in common."""

    ledger: Ledger
    wire: Wire
    library: Library
    dice: random.Random
    name: str
    patience_s: float
    hurry: float = 1.0
    """How much faster than usual it asks, and the GPU draws."""
    resting: bool = False
    """Nothing new is asked for the moment."""
    asking: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0

    def job(self, words: str = "", **size: int) -> Job:
        """Return a new job; it takes 20 to 300 ms unless the words say otherwise."""
        self._count += 1
        if "draw=" not in words:
            words = f"draw={self.dice.uniform(*DRAW_S) / self.hurry:.3f} {words}"
        seed = self.dice.randrange(SEEDS)
        return Job(f"{self.name}-{self._count}-{seed:06x}", seed, words.strip(), **size)

    async def pictures(self, more: int, patience_s: float) -> bool:
        """Return once `more` further requests have their picture; False if it takes too long."""
        enough = self.ledger.pictures() + more
        return await until(lambda: self.ledger.pictures() >= enough, patience_s)

    async def answered(self, request_id: str, patience_s: float) -> bool:
        """Return once a request has an answer; False if it takes too long."""
        return await until(lambda: bool(self.ledger.answers.get(request_id)), patience_s)

    async def all_answered(self) -> None:
        """Return once every confirmed request has its answer or its deadline behind it."""
        await until(lambda: not self.ledger.waiting(time.monotonic()), FOR_EVER_S)

    async def keep_asking(self, face: Face) -> None:
        """Ask at a steady rate while `asking` is set, and wait for what is open at the end."""
        open_: set[asyncio.Task[Any]] = set()
        ask = self.wire.ask if face is Face.WIRE else self.library.ask
        loop = asyncio.get_running_loop()
        while self.asking.is_set():
            await asyncio.sleep(self.dice.expovariate(self.hurry / PAUSE_S[face]))
            if self._may_ask(face, len(open_)):
                task = loop.create_task(ask(self.job(), self.patience_s))
                open_.add(task)
                task.add_done_callback(open_.discard)
        if open_:
            await asyncio.wait(open_)

    def _may_ask(self, face: Face, calls: int) -> bool:
        if self.resting or not self.asking.is_set():
            return False
        return self._open(face) + calls < MOST_WAITING[face]

    def _open(self, face: Face) -> int:
        """Count what the wire waits for; a call of the library is open as long as its task."""
        if face is Face.LIBRARY:
            return 0
        waiting = self.ledger.waiting(time.monotonic())
        return sum(asked.face is face for asked in waiting)


@contextlib.asynccontextmanager
async def loaded(
    name: str, dice: random.Random, patience_s: float, wire_url: str, library_url: str
) -> AsyncIterator[Load]:
    """Have both askers at work until the block ends; what is open then is waited for by it."""
    ledger = Ledger()
    wire = Wire(wire_url, ledger)
    async with ImageClient(library_url) as client, asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(wire.run())
        load = Load(ledger, wire, Library(client, ledger), dice, name, patience_s)
        load.asking.set()
        askers = [tasks.create_task(load.keep_asking(face)) for face in Face]
        try:
            yield load
        finally:
            load.asking.clear()
            await asyncio.wait(askers)
            # A last one may have been confirmed after everything else was answered.
            await load.all_answered()
            await wire.leave()
            keeper.cancel()
