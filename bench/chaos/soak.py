"""The soak: thousands of jobs with a random fault every fifty; nothing is lost and nothing grows."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.chaos.house import House
from bench.chaos.ledger import Verdict
from bench.chaos.load import Load, loaded
from bench.chaos.place import Place
from bench.chaos.rows import Row, Scene, strike
from bench.chaos.services import Resources
from bench.chaos.trend import LEAST_SAMPLES, Slope, slope

FAULT_EVERY_JOBS = 50
SAMPLE_EVERY_S = 0.5
PATIENCE_S = 60.0
HURRY = 4.0
STAYER = "bob"
"""The consumer that no quick fault ends: its figures are one process's from end to end."""
MEBIBYTE = 1 << 20
JUDGED_FROM_JOBS = 1000
"""Shorter soaks see a process get warm, and say nothing about leaks."""
ALLOWED = {"resident MiB": 1.0, "descriptors": 0.5, "tasks": 0.5}
"""Growth per 1,000 jobs that even the low end of the confidence interval must exceed to be a leak."""


@dataclass(slots=True)
class Samples:
    """What the stayer held, over the jobs answered."""

    jobs: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in ALLOWED}
    )
    pids: set[int] = field(default_factory=set)

    def add(self, jobs: int, resources: Resources) -> None:
        """Add one reading."""
        self.jobs.append(jobs)
        self.pids.add(resources.pid)
        for name, value in (
            ("resident MiB", resources.rss / MEBIBYTE),
            ("descriptors", resources.descriptors),
            ("tasks", resources.tasks),
        ):
            self.figures[name].append(round(value, 2))


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak came to."""

    verdict: Verdict
    faults: tuple[tuple[int, str], ...]
    """Jobs answered before it, and the fault's name."""
    samples: Samples
    slopes: dict[str, Slope]
    broken: tuple[str, ...]


async def soak(
    house: House, rows: list[Row], jobs: int, seed: int, tell: Callable[[str], None]
) -> Soaked:
    """Have so many pictures drawn, with faults between them."""
    await house.ready()
    dice = random.Random(f"{seed} soak")  # noqa: S311 - no secret
    faults: list[tuple[int, str]] = []
    broken: list[str] = []
    scenes: list[Scene] = []
    samples = Samples()
    async with loaded("soak", dice, PATIENCE_S, house.wire_url(), house.client_url()) as load:
        load.hurry = HURRY
        sampler = asyncio.get_running_loop().create_task(
            _sample(house.places[STAYER], load, samples)
        )
        while load.ledger.pictures() < jobs:
            if not await load.pictures(FAULT_EVERY_JOBS, PATIENCE_S):
                broken.append(f"fewer than {FAULT_EVERY_JOBS} pictures in {PATIENCE_S:g} s")
            row = dice.choice(rows)
            faults.append((load.ledger.pictures(), row.name))
            tell(f"soak: {load.ledger.pictures()} of {jobs} pictures; now {row.name}")
            scene = Scene(house, load, short=True)
            scenes.append(scene)
            await strike(scene, row)
        load.asking.clear()
        await load.all_answered()
        sampler.cancel()
        await asyncio.wait({sampler})
    if not await house.quiet():
        broken.append("queues not empty, or work in hand, at the end")
    load.ledger.on_the_wire.update(house.replies_seen)
    lines = house.records.new()
    for scene in scenes:
        scene.closed(lines)
        broken += scene.broken
    return _judged(Soaked(load.ledger.verdict(), tuple(faults), samples, {}, tuple(broken)))


async def _sample(place: Place, load: Load, samples: Samples) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            resources = await asyncio.to_thread(place.alive.resources)
            samples.add(load.ledger.pictures(), resources)
        await asyncio.sleep(SAMPLE_EVERY_S)


def _judged(soaked: Soaked) -> Soaked:
    broken = list(soaked.broken)
    verdict, samples = soaked.verdict, soaked.samples
    if verdict.lost:
        broken.append(f"lost {len(verdict.lost)}: {', '.join(verdict.lost[:3])}")
    if verdict.unexpected:
        broken.append(f"unexpected: {'; '.join(verdict.unexpected[:3])}")
    if verdict.duplicated_library:
        broken.append(f"{verdict.duplicated_library} duplicates at the client library")
    if len(samples.pids) > 1:
        broken.append(f"{STAYER} ended in the soak: its figures are of several processes")
    slopes = {}
    if len(samples.jobs) >= LEAST_SAMPLES:
        slopes = {
            name: slope(samples.jobs, figures) for name, figures in samples.figures.items()
        }
    broken += [
        f"{name} grow by {found.per_thousand:.2f} per 1,000 jobs "
        f"({found.low:.2f} to {found.high:.2f}), above {ALLOWED[name]:g}"
        for name, found in slopes.items()
        if found.low > ALLOWED[name] and verdict.pictures >= JUDGED_FROM_JOBS
    ]
    return dataclasses.replace(soaked, slopes=slopes, broken=tuple(broken))
