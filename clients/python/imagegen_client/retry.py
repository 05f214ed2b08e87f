"""The retry: which errors are met by asking again under the same job id, and after how long. Pure."""

from dataclasses import dataclass

from imagegen_client.errors import Busy, GenerationFailed, ImageError, Unavailable


@dataclass(frozen=True, slots=True)
class Retry:
    """Asks again after Busy, Unavailable and a retryable GenerationFailed; never after others.

    The job id stays the same, so nothing is drawn twice. The deadline is that of the whole.
    """

    attempts: int = 3
    """In all, the first included."""
    first_s: float = 1.0
    """The longest wait before the second attempt; doubled with each. Busy says its own."""
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s < 0 or self.most_s < self.first_s:
            raise ValueError("A retry has at least 1 attempt, and 0 <= first_s <= most_s.")

    def wait_s(self, error: ImageError, attempt: int, chance: float) -> float | None:
        """Return the seconds to wait after the `attempt`-th attempt failed; None: give up.

        `chance` is random, from 0 to 1, so that many callers do not come back in step.
        """
        may_help = isinstance(error, Busy | Unavailable | GenerationFailed) and error.retryable
        if not may_help or attempt >= self.attempts:
            return None
        # Beyond 2^60 it is most_s anyway, and from 2^1024 on it is no float.
        backoff_s = min(self.first_s * 2.0 ** min(attempt - 1, 60), self.most_s)
        if isinstance(error, Busy):
            return error.retry_after_s + chance * backoff_s
        return chance * backoff_s


ONCE = Retry(attempts=1)
