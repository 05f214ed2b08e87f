"""The rows: one fault in the middle of a steady load, and what became of every request."""

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.chaos.bars import missed
from bench.chaos.house import Holdings, House
from bench.chaos.job import Job
from bench.chaos.ledger import Verdict
from bench.chaos.load import Load, loaded
from bench.chaos.place import Place, now
from bench.chaos.wait import until
from bench.chaos.work import Work, gather


class Scene:
    """What a fault works with, and where it says what it saw."""

    def __init__(self, house: House, load: Load, *, short: bool) -> None:
        self.house = house
        self.load = load
        self.short = short
        self.dice = load.dice
        self.began = now()
        self.healed_at: float | None = None
        self.notes: list[str] = []
        self.broken: list[str] = []
        """Promises of this row alone that were not kept."""
        self.checks: list[Callable[[Work], None]] = []
        """Looked at when the row is over, with the GPU's record."""

    async def started(self, job: Job) -> Place:
        """Return the consumer that draws a job, once it does.

        Raises:
            RuntimeError: if none does within half a minute.
        """
        places = self.house.places.values()

        def drawing() -> Place | None:
            for place in places:
                if place.records("started", self.began, job_id=job.id):
                    return place
            return None

        await until(lambda: drawing() is not None, STARTED_S)
        place = drawing()
        if place is None:
            raise RuntimeError(f"{job.id} was not started within {STARTED_S:g} s")
        return place

    def healed(self) -> None:
        """Say that from this moment on the consumers could work again."""
        self.healed_at = asyncio.get_running_loop().time()

    def closed(self, lines: list[str]) -> Work:
        """Return the GPU's work in this row, after a look at what it must not have done."""
        work = gather(lines)
        for check in self.checks:
            check(work)
        return work

    def note(self, sentence: str) -> None:
        """Add something worth a look."""
        self.notes.append(sentence)

    def require(self, kept: bool, promise: str) -> None:  # noqa: FBT001 - reads as assert
        """Note a promise of this row that was not kept."""
        if not kept:
            self.broken.append(promise)


Fault = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    tells: str
    fault: Fault
    quick: bool = True
    """Good for the soak: over in seconds, and the house is whole after it."""
    short: bool = True
    """Has a form for the test suite."""
    supervised: bool = False
    """Its recovery waits for consumers to be started again, which the bar is not about."""
    patience_s: float = 45.0
    """Deadline of the load's requests, in seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row came to."""

    row: Row
    verdict: Verdict
    work: Work
    parked: int
    recovers: bool
    """Whether there was a moment from which on deliveries had to come again."""
    recovery_s: float | None
    queues_empty: bool
    before: Holdings
    after: Holdings
    exits: tuple[int, ...]
    seconds: float
    notes: tuple[str, ...]
    broken: tuple[str, ...]
    """Bars missed, in sentences; empty if all is well."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many pictures come before and after a fault, and how fast they are asked for."""

    before: int
    after: int
    hurry: float


FULL, SHORT = Pace(6, 8, 1.0), Pace(2, 2, 3.0)
BEFORE_S = 20.0
STARTED_S = 30.0
FAULT_S = 120.0


async def run_row(house: House, row: Row, seed: int, *, short: bool = False) -> Outcome:
    """Run one row from clean queues to its books closed."""
    began = time.monotonic()
    broken = await _made_ready(house)
    before = await house.holdings()
    pace = SHORT if short else FULL
    dice = random.Random(f"{seed} {row.name}")  # noqa: S311 - no secret
    async with loaded(
        row.name.replace(" ", "-"), dice, row.patience_s, house.wire_url(), house.client_url()
    ) as load:
        load.hurry = pace.hurry
        scene = Scene(house, load, short=short)
        before_it = await load.pictures(pace.before, BEFORE_S)
        scene.require(before_it, f"fewer than {pace.before} pictures before the fault")
        await strike(scene, row)
        after_it = await load.pictures(pace.after, row.patience_s)
        scene.require(after_it, f"fewer than {pace.after} pictures after the fault")
        load.asking.clear()
        await load.all_answered()
    empty = await house.quiet()
    load.ledger.on_the_wire.update(house.replies_seen)
    work = scene.closed(house.records.new())
    outcome = Outcome(
        row,
        load.ledger.verdict(),
        work,
        await house.admin.parked(),
        scene.healed_at is not None,
        _recovery_s(scene),
        empty,
        before,
        await house.holdings(),
        tuple(code for place in house.places.values() for code in place.ended),
        time.monotonic() - began,
        tuple(scene.notes),
        (),
    )
    return dataclasses.replace(
        outcome, broken=(*broken, *scene.broken, *missed(outcome, timed=not short))
    )


async def _made_ready(house: House) -> list[str]:
    """Return what was wrong before the row began; the row before it left that."""
    try:
        await house.ready()
    except RuntimeError as error:
        await house.renew()
        await house.ready()
        return [f"the row before this one left the house so: {error}"]
    return []


async def strike(scene: Scene, row: Row) -> None:
    """Let the fault happen. One that could not is a bar missed, and no end of the bench."""
    try:
        async with asyncio.timeout(FAULT_S):
            await row.fault(scene)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows shall run
        scene.broken.append(f"the fault itself failed: {error!r}")
        for link in (scene.house.client_link, *scene.house.links):
            link.heal()


def _recovery_s(scene: Scene) -> float | None:
    """Return the seconds from the recovery to the first delivery; None where neither was."""
    if scene.healed_at is None:
        return None
    first = scene.house.first_delivery(scene.healed_at)
    return None if first is None else first - scene.healed_at
