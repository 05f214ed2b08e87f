"""The breaker: failures in a row that are not one job's doing say that the GPU is broken. Pure."""

from dataclasses import dataclass, replace

from consumer.gpu.limits import BREAKER_FAILURES, GpuLimits

NOBODY = None
"""The culprit of a death without a picture in hand: while loading, or idle."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Closed while the GPU works; open from too many failures to the next picture that comes out.

    Times are seconds of the one clock that the caller uses for all of them.
    """

    failures: int = 0
    """Since the last picture."""
    culprits: frozenset[str | None] = frozenset()
    """The jobs that failed, and NOBODY."""
    opened: float | None = None
    failed: float = 0.0
    """When the last failure was."""

    @property
    def open(self) -> bool:
        """Whether the GPU is taken for broken."""
        return self.opened is not None

    def success(self) -> "Breaker":
        """Return what a picture that came out makes of it, a job's or a test picture."""
        return Breaker()

    def failure(self, culprit: str | None, now: float) -> "Breaker":
        """Return what a failure makes of it: a death, a hang, too little memory, no numbers."""
        after = replace(
            self,
            failures=self.failures + 1,
            culprits=self.culprits | {culprit},
            failed=now,
        )
        if after.open or not after.too_many():
            return after
        return replace(after, opened=now)

    def too_many(self) -> bool:
        """Whether there were enough failures, and not of one job alone: that job may be poison."""
        innocent = len(self.culprits) > 1 or NOBODY in self.culprits
        return innocent and self.failures >= BREAKER_FAILURES

    def canary_at(self, limits: GpuLimits) -> float:
        """Return when the next test picture is due."""
        return self.failed + limits.canary_every_s

    def exit_at(self, limits: GpuLimits) -> float | None:
        """Return when to give up; None while closed."""
        return None if self.opened is None else self.opened + limits.defunct_exit_s
