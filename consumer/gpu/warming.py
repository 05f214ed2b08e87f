"""The warming: a small picture at each size before the first job, which then does not wait for kernels.

On ROCm the first picture at a size searches and compiles kernels, which may take minutes; on CUDA
it loads them. Also a proof by work: what draws here draws for a caller.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from consumer.gpu.pipeline import (
    DrawError,
    LoadError,
    OutOfMemoryError,
    Pipeline,
    checked,
)
from consumer.gpu.protocol import Generate, Load, Ready

FORWARDS = 2
"""Schedulers of some pipelines divide by the number of steps less one."""
PROMPT = "a stove in winter"
SEED = 1


def warm(pipeline: Pipeline, ready: Ready, command: Load, note: Callable[[str], None]) -> Ready:
    """Draw each of the sizes asked for, and return `ready` with those that were drawn.

    A size too large for the memory is left cold: what asks for it is told so, or drawn in tiles.

    Raises:
        LoadError: a picture cannot be had although it fits.
    """
    if ready.device.startswith("cpu") and not command.warm_on_cpu:
        return ready
    return replace(ready, warmed=list(_drawn(pipeline, command, note)))


def _drawn(pipeline: Pipeline, command: Load, note: Callable[[str], None]) -> Iterator[str]:
    for count, size in enumerate(command.warm, 1):
        note(f"warming {size}, {count} of {len(command.warm)}")
        picture = _picture(size, command.guidance)
        try:
            checked(pipeline.draw(picture, _unheard))
        except OutOfMemoryError as error:
            note(f"{size} stays cold: {error}")
        except DrawError as error:
            # Not permanent: a fresh process, or a reset of the card, may draw again.
            raise LoadError(
                f"No picture of {size} can be drawn: {error} Look at the driver's log (dmesg), or "
                "set IMAGE_GEN_WARM_SIZES=none to start all the same.",
                permanent=False,
            ) from error
        else:
            yield size


def _picture(size: str, guidance: float) -> Generate:
    width, height = (int(side) for side in size.split("x"))
    return Generate("warming", PROMPT, width, height, SEED, FORWARDS, guidance)


def _unheard(*_: object) -> None:
    pass
