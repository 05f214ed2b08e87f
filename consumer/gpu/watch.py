"""The watch over a child: one alarm, set anew with all that is heard, that calls silence a hang."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.picture import Picture

SECOND_LOOK_S = 0.25
"""Before a silence is called a hang: its end may wait unread while our own event loop was late."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to call a hang, and in which words."""

    at: float
    note: str
    final: bool
    """Not even fresh news puts it off: the hard limit of a picture."""


class Watch:
    """Calls `on_hang` with a sentence, once, unless it hears in time."""

    def __init__(self, pace: Pace, limits: GpuLimits, on_hang: Callable[[str], None]) -> None:
        self._pace = pace
        self._limits = limits
        self._on_hang = on_hang
        self._alarm: asyncio.TimerHandle | None = None
        self._deadline: Deadline | None = None
        """That the alarm is set for."""
        self._looked_at = 0.0
        """The deadline that rang last."""

    @property
    def due(self) -> float | None:
        """When it must have called a hang, or heard something; None while it watches nothing.

        In seconds of the event loop's clock. Later than that by more than the loop's own lag, the
        watch itself has failed.
        """
        return None if self._deadline is None else self._deadline.at + SECOND_LOOK_S

    def loading(self, since: float) -> None:
        """Watch a child that loads."""
        allowed = self._pace.load_s()
        if allowed is not None:
            self._set(Deadline(since + allowed, f"not loaded within {allowed:g} s", final=True))

    def drawing(self, picture: Picture | None, arriving: Picture | None, *, cold: bool) -> None:
        """Watch what is drawn and what arrives; nothing to watch is rest."""
        deadlines = [self._hard(each) for each in (picture, arriving) if each is not None]
        if picture is not None:
            deadlines.append(self._silence(picture, cold=cold))
        self.rest()
        if deadlines:
            self._set(min(deadlines, key=lambda each: each.at))

    def rest(self) -> None:
        """Watch nothing."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._deadline = None

    def _hard(self, picture: Picture) -> Deadline:
        allowed = self._limits.job_timeout_s
        return Deadline(
            picture.started + allowed, f"no picture within {allowed:g} s", final=True
        )

    def _silence(self, picture: Picture, *, cold: bool) -> Deadline:
        allowed = self._pace.silence_s(picture.size, picture.stage, cold=cold)
        return Deadline(
            picture.stage_since + allowed,
            f"nothing heard for {allowed:g} s in {picture.stage}",
            final=False,
        )

    def _set(self, deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._alarm = loop.call_at(deadline.at, self._ring, deadline)

    def _ring(self, deadline: Deadline) -> None:
        """Look a second time; once only at what no news puts off."""
        if deadline.final and self._looked_at == deadline.at:
            self._call(deadline)
            return
        self._looked_at = deadline.at
        call_later = asyncio.get_running_loop().call_later
        self._alarm = call_later(SECOND_LOOK_S, self._call, deadline)

    def _call(self, deadline: Deadline) -> None:
        self.rest()
        self._on_hang(deadline.note)
