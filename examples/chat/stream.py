"""The stream: a conversation's changes as server-sent events, from any point on."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from examples.chat.accounts import User
from examples.chat.conversations import Conversations, Message
from examples.chat.tabs import Tabs

STILL_HERE_S = 15.0
"""After so long without news a line without meaning is sent: who has gone is noticed by it."""
RETRY_MS = 1000


class Stream:
    """Tells pages what is new.

    `message` events are numbered by the change that they tell, so that a page that comes back says
    what it saw last, and gets every message that changed since, once. `step` events are news of the
    moment and have no number. `who` comes first: in another tab somebody else may have signed in.
    """

    def __init__(
        self,
        conversations: Conversations,
        tabs: Tabs,
        shown: Callable[[User, Message], dict[str, Any]],
    ) -> None:
        self._conversations = conversations
        self._tabs = tabs
        self._shown = shown

    async def events(
        self, user: User, since: int, signed_in: Callable[[], bool]
    ) -> AsyncIterator[str]:
        """Give the events, until the user signs out or the server ends."""
        with self._tabs.opened(user.id) as tab:
            yield f"retry: {RETRY_MS}\n\n" + _event("who", {"user": user.name})
            while not self._tabs.closing and signed_in():
                while changed := self._conversations.since(user, since):
                    for message in changed:
                        since = message.changed
                        yield _event("message", self._shown(user, message), since)
                for step in tab.taken():
                    yield _event(
                        "step",
                        {"picture": step.picture, "step": step.step, "steps": step.steps},
                    )
                if not await tab.wait(STILL_HERE_S):
                    yield ": still here\n\n"


def _event(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{numbered}data: {json.dumps(data)}\n\n"
