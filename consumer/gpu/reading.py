"""The reading: what the driver tells of one GPU at one moment. What it does not tell is None."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one GPU. Memory is in bytes."""

    source: str
    """`nvml` or `sysfs`."""
    name: str | None = None
    unique_id: str | None = None
    driver: str | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    """Of the card; on an APU what the firmware set apart of the main memory."""
    shared_used: int | None = None
    shared_total: int | None = None
    """Main memory that the GPU may use as well (AMD calls it GTT); on an APU it is most of it."""
    integrated: bool = False
    """It is an APU: card and machine share their memory."""
    busy_percent: float | None = None
    temperatures: dict[str, float] = field(default_factory=dict)
    """Degrees Celsius by place: `edge`, `junction` and `mem` on AMD, `gpu` on NVIDIA."""
    power_watts: float | None = None
    """On an APU the processor's cores are counted in."""

    @property
    def used(self) -> int | None:
        """Bytes in use of all that it can draw with."""
        return self._with_shared(self.memory_used, self.shared_used)

    @property
    def total(self) -> int | None:
        """Bytes of all that it can draw with."""
        return self._with_shared(self.memory_total, self.shared_total)

    @property
    def temperature(self) -> float | None:
        """Degrees Celsius of its hottest place."""
        return max(self.temperatures.values(), default=None)

    def _with_shared(self, own: int | None, shared: int | None) -> int | None:
        if not self.integrated or own is None or shared is None:
            return own
        return own + shared
