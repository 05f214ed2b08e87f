"""The pace: what steps and stages were measured to take, and how long a silence may last. No clock.

A stage is timed from the news before it to the news that ends it, so that every silence of a
drawing child falls into exactly one:

- text_encode: from the command to the end of the first step; the prompt, and one step
- denoise: one further step
- vae_decode: from the last step to the picture
"""

import statistics
from collections import defaultdict, deque

from consumer.gpu.limits import GpuLimits
from consumer.gpu.protocol import Stage

KEPT = 16
"""Times of a stage at a size; the median of them counts, which one slow first picture leaves alone."""
COLD_FACTOR = 3.0
"""More patience with the first picture of a child: kernels are loaded and memory is reserved.

Chosen, not measured.
"""

Size = tuple[int, int]
"""Width and height in pixels."""


class Pace:
    """What was measured, by size and stage. Seconds throughout."""

    def __init__(self, limits: GpuLimits) -> None:
        self._limits = limits
        self._times: defaultdict[tuple[Size, Stage], deque[float]] = defaultdict(
            lambda: deque(maxlen=KEPT)
        )
        self._load_s: float | None = None

    # ------------------------------------------------------------ learn

    def learn(self, size: Size, stage: Stage, seconds: float) -> None:
        """Take note of a stage that ended."""
        self._times[size, stage].append(seconds)

    def learn_load(self, seconds: float) -> None:
        """Take note of the time from the start of a child to its readiness."""
        self._load_s = max(seconds, self._load_s or 0.0)

    def copy(self) -> "Pace":
        """Return what is known now, for another thread."""
        copy = Pace(self._limits)
        for key, times in self._times.items():
            copy._times[key].extend(times)
        copy._load_s = self._load_s
        return copy

    # ------------------------------------------------------------ foretell

    @property
    def sizes(self) -> list[Size]:
        """The sizes of which a whole picture was measured, the smallest first."""
        whole = {size for size, stage in self._times if stage is Stage.VAE_DECODE}
        return sorted(whole, key=lambda size: (size[0] * size[1], size))

    def step_s(self, width: int, height: int) -> float | None:
        """Return what a step takes; None before the first one was measured.

        Of a size that was never drawn: what the size nearest to it takes, by the pixels. A larger
        picture than any before takes longer than that, since attention grows faster than they do.
        """
        return self._foretold((width, height), Stage.DENOISE)

    def picture_s(self, width: int, height: int, forwards: int) -> float | None:
        """Return what a picture takes with all its stages, as `step_s` does."""
        size = (width, height)
        first = self._foretold(size, Stage.TEXT_ENCODE)
        step = self._foretold(size, Stage.DENOISE) if forwards > 1 else 0.0
        decode = self._foretold(size, Stage.VAE_DECODE)
        if first is None or step is None or decode is None:
            return None
        return first + (forwards - 1) * step + decode

    def _foretold(self, size: Size, stage: Stage) -> float | None:
        pixels = size[0] * size[1]
        known = [of for of, what in self._times if what is stage]
        if not known:
            return None
        nearest = min(known, key=lambda of: (of != size, abs(of[0] * of[1] - pixels)))
        return self._typical(nearest, stage) * pixels / (nearest[0] * nearest[1])

    def _typical(self, size: Size, stage: Stage) -> float:
        return statistics.median(self._times[size, stage])

    # ------------------------------------------------------------ judge

    def silence_s(self, size: Size, stage: Stage, *, cold: bool) -> float:
        """Return how long a child may be silent in a stage before it is taken to hang.

        The hard limit where this size was never measured: the first picture at a size may compile
        kernels for minutes, and no other size tells for how long.
        """
        hard = self._limits.job_timeout_s
        if (size, stage) not in self._times:
            return hard
        measured = self._limits.step_factor * self._typical(size, stage)
        patience = max(self._limits.step_floor_s, measured)
        return min(hard, patience * (COLD_FACTOR if cold else 1.0))

    def load_s(self) -> float | None:
        """Return how long a child may load; None, for ever, where none has loaded yet.

        The first load may be a download of 20 GB.
        """
        if self._load_s is None:
            return None
        return max(self._limits.job_timeout_s, self._limits.step_factor * self._load_s)
