"""The throttle: so many tries of a kind within a time, and then a wait. Pure but for its memory."""

import math
from collections import OrderedDict, deque

NAMES_MOST = 10_000
"""Names that are remembered; the longest unused goes first."""


class Throttle:
    """Counts tries by name. Times are seconds of one clock that only grows."""

    def __init__(self, tries: int, within_s: float) -> None:
        self._tries = tries
        self._within_s = within_s
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, name: str, now: float) -> int:
        """Return the whole seconds until the next try; 0 where it may be made now."""
        seen = self._seen.get(name)
        if seen is None or len(seen) < self._tries:
            return 0
        return max(0, math.ceil(seen[0] + self._within_s - now))

    def count(self, name: str, now: float) -> None:
        """Remember a try."""
        seen = self._seen.setdefault(name, deque(maxlen=self._tries))
        seen.append(now)
        self._seen.move_to_end(name)
        if len(self._seen) > NAMES_MOST:
            self._seen.popitem(last=False)

    def forget(self, name: str) -> None:
        """Begin anew: a try went well."""
        self._seen.pop(name, None)
