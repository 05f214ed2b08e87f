"""The devices: readings of the GPU in use, taken in a thread, seldom, and never waited for.

The child knows which card it draws on and tells its PCI address; the parent has no torch and asks
the driver, whose readings count what all processes do. A driver may hang in the middle of a
question, for ever: the thread is left to it, no second one is sent after it, and what was read
before is shown with its age until it is too old to be true.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from consumer.gpu import nvml, sysfs
from consumer.gpu.reading import Reading

EVERY_S = 5.0
"""Between the beginnings of two readings, at least."""
HANGS_AFTER_S = 2.0
"""A reading takes milliseconds; after so long it is said to hang."""
STALE_AFTER_S = 30.0
"""A reading older than this is not shown any more."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a GPU is found."""

    backend: str
    """As the child tells: `rocm 7.2`, `cuda 13.0` or `cpu`."""
    pci: str
    """`0000:03:00.0`; empty where the child cannot tell."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the GPU at one moment."""

    reading: Reading | None = None
    """None where there is none, and where the last one is too old."""
    age_s: float | None = None
    hangs_s: float | None = None
    """So long the driver has not answered; None while it does."""


Read = Callable[[Address], Reading]


def read_device(address: Address) -> Reading:
    """Ask the driver. May take as long as the driver pleases."""
    if address.backend.startswith("rocm"):
        return sysfs.read(address.pci)
    return nvml.read(address.pci)


class Devices:
    """The last reading, renewed in the background while somebody looks."""

    def __init__(
        self, read: Read = read_device, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._begun = 0.0
        self._last: tuple[Reading | None, float] | None = None
        """Written by the thread, at once; with the time at which it was begun: what it read first
        is as old as that, if the driver hung before the last."""

    def look(self, address: Address) -> Seen:
        """Return what is known now, and have it renewed if it is time. Never waits."""
        if not address.pci:
            return Seen()
        now = self._clock()
        if self._due(now):
            self._begin(address, now)
        return self._seen(now)

    def _begin(self, address: Address, now: float) -> None:
        """Have the driver asked; where no thread can be had, at the next time."""
        self._begun = now
        # A daemon: one that hangs in the driver must not keep the service from ending.
        self._thread = threading.Thread(
            target=self._renew, args=(address,), name="gpu reading", daemon=True
        )
        # RuntimeError where the machine or the container has as many as it may have.
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def _due(self, now: float) -> bool:
        if self._thread is None:
            return True
        return not self._thread.is_alive() and now - self._begun >= EVERY_S

    def _seen(self, now: float) -> Seen:
        waited = now - self._begun
        alive = self._thread is not None and self._thread.is_alive()
        hangs_s = waited if alive and waited >= HANGS_AFTER_S else None
        if self._last is None:
            return Seen(hangs_s=hangs_s)
        reading, at = self._last
        age_s = now - at
        if reading is None or age_s >= STALE_AFTER_S:
            return Seen(hangs_s=hangs_s)
        return Seen(reading, age_s, hangs_s)

    def _renew(self, address: Address) -> None:
        begun = self._clock()
        try:
            reading = self._read(address)
        except Exception:  # noqa: BLE001 - a driver's library may raise whatever it likes
            reading = None
        self._last = (reading, begun)
