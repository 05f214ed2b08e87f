"""The heard: the latest step of the jobs that are listened to, and a bell for who follows one."""

import asyncio
import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from imagegen_client import Progress

REMEMBERED = 1000
"""Jobs whose latest step is kept; the longest unheard of goes first."""


class Heard:
    """News of all jobs, as the events tell them; some may be missing."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, int] = OrderedDict()
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def hear(self, news: Progress) -> None:
        """Take note of a piece of news, and ring for who follows its job."""
        if news.state in {"running", "step"}:
            self._steps[news.job_id] = news.step
            self._steps.move_to_end(news.job_id)
            if len(self._steps) > REMEMBERED:
                self._steps.popitem(last=False)
        else:
            self._steps.pop(news.job_id, None)
        self.ring(news.job_id)

    def ring(self, job_id: str) -> None:
        """Have who follows a job look where it stands."""
        for bell in self._bells.get(job_id, ()):
            bell.set()

    def step(self, job_id: str) -> int | None:
        """Return how many steps of a running job are done, if that was heard."""
        return self._steps.get(job_id)

    def forget(self, job_id: str) -> None:
        """Drop the latest step of a job whose news do not come any more: it would be out of date."""
        self._steps.pop(job_id, None)

    @contextlib.contextmanager
    def following(self, job_id: str) -> Iterator[asyncio.Event]:
        """Lend a bell that rings with every piece of news of a job; who hears it clears it."""
        bell = asyncio.Event()
        self._bells[job_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[job_id].discard(bell)
            if not self._bells[job_id]:
                del self._bells[job_id]
