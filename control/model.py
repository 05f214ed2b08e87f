"""The model that the service gets where IMAGE_GEN_MODEL names none."""

from control import accelerator
from control.settings import PREFIX, setting
from control.torch_build import Variant

ENOUGH_MIB = 15 * 1024
"""Memory with which Z-Image-Turbo runs, in MiB: what a card sold as 16 GB reports."""

BUILTIN = "builtin"
NOTICE = (
    "No accelerator with 15 GiB of memory: using the small built-in model, which draws simple"
    f" scenes. The real one: {PREFIX}MODEL=Tongyi-MAI/Z-Image-Turbo (about 20 GB, slow without a card)."
)


def choose(variant: Variant) -> str | None:
    """Return `builtin` where the default would not run; None leaves the choice to the service."""
    if setting("MODEL") is not None or _largest(variant) >= ENOUGH_MIB:
        return None
    return BUILTIN


def _largest(variant: Variant) -> int:
    """Return the memory of the largest card that the installed torch can use, in MiB."""
    if variant == "cpu" or setting("DEVICE") == "cpu":
        return 0
    cards = accelerator.nvidia_memory() if variant == "cuda" else accelerator.amd_memory()
    return max(cards, default=0)
