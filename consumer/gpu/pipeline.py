"""The pipeline's interface: what the GPU child asks of whatever draws. Loaded by name."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from consumer.gpu.protocol import Generate, Load, Ready

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OnStep = Callable[[int, int], None]
"""Called after each denoising step with (steps done, steps in all). Raises StopDrawingError."""


class StopDrawingError(Exception):
    """Raised out of `on_step` to stop a picture; the pipeline stays usable."""


class LoadError(Exception):
    """The model cannot be loaded; the message is a sentence with the remedy."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class DrawError(Exception):
    """A picture cannot be had; the child goes on."""

    code = "internal"


class PromptTooLongError(DrawError):
    """The prompt has more tokens than the model reads."""

    code = "invalid_request"


class OutOfMemoryError(DrawError):
    """The device had too little memory."""

    code = "out_of_memory"


class NanOutputError(DrawError):
    """The arithmetic gave no finite picture, or one flat value."""

    code = "nan_output"


class DeviceLostError(Exception):
    """The device's context is broken: the process must be replaced."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture: `pixels` is height x width x 3, uint8 sRGB, C-contiguous.

    The array is sent while the next picture is drawn: its pipeline does not write to it again.
    """

    pixels: "NDArray[np.uint8]"
    forwards: int
    seconds: dict[str, float]
    memory: dict[str, int] = field(default_factory=dict)


class Pipeline(Protocol):
    """What draws. Made with no arguments, in the child, used by one thread."""

    def load(self, command: Load, note: Callable[[str], None]) -> Ready:
        """Load the model. Raises LoadError."""
        ...

    def draw(self, command: Generate, on_step: OnStep) -> Drawn:
        """Draw a picture. Raises DrawError, or StopDrawingError out of `on_step`."""
        ...


def pipeline_named(name: str) -> Pipeline:
    """Return a new pipeline for `module:Class`. Raises LoadError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        made: Pipeline = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise LoadError(f"There is no pipeline {name}: {error}.", permanent=True) from error
    return made


def checked(drawn: Drawn) -> Drawn:
    """Return a picture that is one.

    Values that are no numbers become one flat colour as 8-bit pixels, whatever the pipeline.

    Raises:
        NanOutputError: it is one flat colour.
        TypeError: it is no height x width x 3 of uint8.
    """
    pixels = drawn.pixels
    if pixels.dtype.name != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"a picture of {pixels.dtype} in the shape {pixels.shape}")
    first = pixels[0, 0]
    # Nearly every picture is through after its first row.
    if (pixels[0] == first).all() and (pixels == first).all():
        raise NanOutputError("The picture is one flat colour.")
    return drawn
