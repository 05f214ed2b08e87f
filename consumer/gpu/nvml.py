"""NVIDIA's driver as a library: NVML of the card at a PCI address, by `nvidia-ml-py`.

Not run on hardware: the tests put a library of their own in its place.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from consumer.gpu.reading import Reading

T = TypeVar("T")


def read(pci: str) -> Reading:
    """Return the reading of the card at a PCI address such as `0000:03:00.0`.

    A container without the driver's `utility` capability has no such library: all is None then.
    """
    nvml = _library()
    if nvml is None:
        return Reading("nvml")
    ask = functools.partial(_ask, nvml)
    card = ask(nvml.nvmlDeviceGetHandleByPciBusId, pci.encode())
    if card is None:
        return Reading("nvml")
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, card)
    degrees = ask(nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
    milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, card)
    busy = ask(nvml.nvmlDeviceGetUtilizationRates, card)
    return Reading(
        source="nvml",
        name=ask(nvml.nvmlDeviceGetName, card),
        unique_id=ask(nvml.nvmlDeviceGetUUID, card),
        driver=ask(nvml.nvmlSystemGetDriverVersion),
        memory_used=None if memory is None else int(memory.used),
        memory_total=None if memory is None else int(memory.total),
        busy_percent=None if busy is None else busy.gpu,
        temperatures={} if degrees is None else {"gpu": float(degrees)},
        power_watts=None if milliwatts is None else milliwatts / 1000,
    )


@functools.cache
def _initialised(nvml: Any) -> bool:
    """Whether the driver's library is there; once there it stays open as long as we live."""
    nvml.nvmlInit()
    return True


def _library() -> Any:
    """Return the module with its library loaded; None where there is none of them."""
    try:
        import pynvml  # noqa: PLC0415 - the base installation does not have it
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        # A failure is not cached: a driver may come up after us.
        _initialised(pynvml)
        return pynvml
    return None


def _ask(nvml: Any, question: Callable[..., T], *arguments: Any) -> T | None:
    """Return the answer; None where this card, driver or user cannot be told."""
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None
