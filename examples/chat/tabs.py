"""The tabs: the pages that are open, each woken when there is news for its user."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from examples.chat.refusal import Refusal

TABS_MOST = 20
"""Of one user."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the drawing of a picture is: denoising steps done, and in all."""

    picture: str
    step: int
    steps: int


@dataclass(slots=True)
class Tab:
    """One page: of steps it hears the latest alone, so that a slow one holds up nothing."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    steps: dict[str, Step] = field(default_factory=dict)

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news; returns whether there is some."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.news.wait()
        there_is = self.news.is_set()
        self.news.clear()
        return there_is

    def taken(self) -> list[Step]:
        """Return the steps since the last time."""
        steps, self.steps = list(self.steps.values()), {}
        return steps


class Tabs:
    """All open pages, by user."""

    def __init__(self) -> None:
        self._open: dict[int, list[Tab]] = {}
        self._steps: dict[str, Step] = {}
        self.closing = False

    def check_room(self, user: int) -> None:
        """Raise Refusal where a user has too many pages open, before an answer has begun."""
        if len(self._open.get(user, ())) >= TABS_MOST:
            raise Refusal(429, "Too many pages are open. Close some.", retry_after_s=10)

    @contextlib.contextmanager
    def opened(self, user: int) -> Iterator[Tab]:
        """Have a page hear news, of what is being drawn this moment first."""
        tabs, tab = self._open.setdefault(user, []), Tab()
        tabs.append(tab)
        try:
            yield tab
        finally:
            tabs.remove(tab)
            if not tabs:
                del self._open[user]

    def wake(self, user: int) -> None:
        """Have the user's pages look again."""
        for tab in self._open.get(user, ()):
            tab.news.set()

    def tell(self, user: int, step: Step) -> None:
        """Tell the user's pages how far a picture is."""
        self._steps[step.picture] = step
        for tab in self._open.get(user, ()):
            tab.steps[step.picture] = step
            tab.news.set()

    def step(self, picture: str) -> Step | None:
        """Return how far a picture is, where that is known."""
        return self._steps.get(picture)

    def forget(self, picture: str) -> None:
        """It is over."""
        self._steps.pop(picture, None)

    def close(self) -> None:
        """Have all pages leave: the server ends."""
        self.closing = True
        for user in self._open:
            self.wake(user)
