"""The course of one phase: steps within a budget, checkpoints, a progress bar, and going on."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from training.learning import keeping

Clock = Callable[[], float]
"""Tells the seconds that count towards a budget, from any beginning."""


def clock_of(device: str) -> Clock:
    """Return a card's wall clock, or on a CPU the seconds that its threads really had.

    What runs beside then costs a run time, and nothing of what it learns.
    """
    if device != "cpu":
        return time.monotonic
    return lambda: time.process_time() / torch.get_num_threads()


class Learner(Protocol):
    """What learns in a phase."""

    def step(self, number: int, part: float) -> dict[str, float]:
        """Learn once; `part` (0..1) of the phase is over. Returns losses by name."""

    def state(self) -> dict[str, Any]:
        """Return everything that going on needs, besides the number of the step."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""

    def sheet(self, path: Path) -> None:
        """Write a picture that shows how far it is."""


@dataclass(frozen=True)
class Budget:
    """What a phase may take: so many steps, or so many seconds over all its runs."""

    steps: int | None = None
    seconds: float = 0.0

    def part(self, steps: int, seconds: float) -> float:
        """Return how much of it is used, 0..1."""
        if self.steps is not None:
            return min(1.0, steps / max(1, self.steps))
        return min(1.0, seconds / self.seconds) if self.seconds > 0 else 1.0


@dataclass(frozen=True)
class Rhythm:
    """How often a course is written down and shown, in seconds."""

    checkpoint_s: float
    sheet_s: float
    told_s: float = 15.0


def learn(
    name: str, learner: Learner, folder: Path, budget: Budget, rhythm: Rhythm, clock: Clock
) -> float:
    """Run a phase to its end, from where an earlier run of it was. Returns its seconds in all."""
    path = folder / f"{name}.checkpoint"
    kept = keeping.load(path)
    steps, before = 0, 0.0
    if kept is not None:
        steps, before = int(kept["steps"]), float(kept["seconds"])
        learner.restore(kept["learner"])
    began, now = clock(), time.monotonic()
    due = {"checkpoint": now + rhythm.checkpoint_s, "sheet": now + rhythm.sheet_s}
    bar = _Bar(name, rhythm.told_s)
    while (part := budget.part(steps, before + clock() - began)) < 1:
        losses = learner.step(steps, part)
        steps += 1
        now = time.monotonic()
        bar.show(part, steps, losses)
        if now >= due["checkpoint"]:
            _keep(path, learner, steps, before + clock() - began)
            due["checkpoint"] = time.monotonic() + rhythm.checkpoint_s
        if now >= due["sheet"]:
            learner.sheet(folder / "sheets" / f"{name}-{steps:07d}.png")
            due["sheet"] = time.monotonic() + rhythm.sheet_s
    seconds = before + clock() - began
    _keep(path, learner, steps, seconds)
    bar.end(steps, seconds)
    return seconds


def _keep(path: Path, learner: Learner, steps: int, seconds: float) -> None:
    keeping.save(path, {"steps": steps, "seconds": seconds, "learner": learner.state()})


class _Bar:
    """One line that moves on a terminal, and now and then a line of its own in a log."""

    def __init__(self, name: str, told_s: float) -> None:
        self._name, self._told_s = name, told_s
        self._next = 0.0
        self._means: dict[str, float] = {}

    def show(self, part: float, steps: int, losses: dict[str, float]) -> None:
        for key, value in losses.items():
            self._means[key] = 0.98 * self._means.get(key, value) + 0.02 * value
        now = time.monotonic()
        if now < self._next:
            return
        terminal = sys.stdout.isatty()
        self._next = now + (0.5 if terminal else self._told_s)
        done = round(part * 24)
        told = "  ".join(f"{key} {value:.4f}" for key, value in self._means.items())
        bar = "█" * done + "░" * (24 - done)
        ending = "" if terminal else "\n"
        start = "\r" if terminal else ""
        print(
            f"{start}{self._name:9} {bar} {part:6.1%}  step {steps}  {told}",
            end=ending,
            flush=True,
        )

    def end(self, steps: int, seconds: float) -> None:
        start = "\r" if sys.stdout.isatty() else ""
        print(
            f"{start}{self._name:9} done: {steps} steps in {seconds:.0f} s".ljust(100),
            flush=True,
        )
