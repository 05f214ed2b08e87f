"""The picture in hand: what was asked for, how far it is, and the one end it comes to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from consumer.gpu.protocol import Generate, Stage

OnStep = Callable[[int, int], None]
"""Told of each denoising step, with (steps done, steps in all)."""


class GpuError(Exception):
    """A picture cannot be had from the child."""

    gpu_seconds: float = 0.0
    """What this try cost the GPU; 0.0 if it never started."""


class GpuDiedError(GpuError):
    """The child died with the picture in it."""


class GpuTimeoutError(GpuError):
    """The child hung, or did not finish within the hard limit, and was killed."""


class DrawingStoppedError(GpuError):
    """The picture was stopped as asked, or the GPU process was."""


class DrawingFailedError(GpuError):
    """The child says why there is no picture; it goes on."""

    def __init__(self, code: str, message: str, frames: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.frames = frames
        """Of a defect: the lines of code that it came through."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture as it came from the child: `pixels` is H x W x 3, uint8 sRGB, row by row."""

    pixels: bytearray
    width: int
    height: int
    forwards: int
    seconds: dict[str, float]
    memory: dict[str, int]
    started: float
    """Monotonic seconds at which its turn on the GPU began."""
    gpu_seconds: float
    """How long its turn on the GPU was."""


@dataclass(slots=True, eq=False)
class Picture:
    """A picture that somebody waits for. Times are those of the event loop's clock."""

    command: Generate
    on_step: OnStep
    on_start: Callable[[], None]
    frame: asyncio.Future[Frame]
    asked: float = 0.0
    """When it was asked for."""
    started: float = 0.0
    """When the child got it; 0.0 before."""
    ended: float = 0.0
    """When the child was done with it, its pixels being still on their way; 0.0 before."""
    stage: Stage = Stage.TEXT_ENCODE
    stage_since: float = 0.0
    step: int = 0
    """Denoising steps done."""
    called_off: bool = False
    """The child was told to stop it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as they were asked for."""
        return self.command.width, self.command.height

    def start(self, now: float) -> None:
        """Take note that the child has it."""
        self.started = self.stage_since = now

    def enter(self, stage: Stage, now: float) -> None:
        """Take note of the stage it is in."""
        self.stage, self.stage_since = stage, now

    def gpu_seconds(self, now: float) -> float:
        """Return how long the child has had it."""
        return now - self.started if self.started else 0.0

    def settle(self, result: Frame | GpuError) -> None:
        """Give it its end; the first one counts."""
        if self.frame.done():
            return
        if isinstance(result, Frame):
            self.frame.set_result(result)
        else:
            self.frame.set_exception(result)

    def fail(self, error: GpuError, now: float) -> None:
        """Give it an error for its end, with what it cost."""
        error.gpu_seconds = self.gpu_seconds(now)
        self.settle(error)
