"""Whether a service takes requests: its own pages, and the wait after a start."""

import json
import time
from typing import Any, Protocol

from control import loopback
from control.say import Failure, Progress

LOOK_EVERY_S = 0.2
PATIENCE_S = {"silent": 180.0, "connecting": 60.0, "failed": 15.0}
"""Seconds that a state may last while the service starts; the others, such as a download of the
model, take as long as they take."""
RESTARTS = 3
"""Deaths in a row after which a start is given up."""


class Started(Protocol):
    """A service that was told to start."""

    @property
    def url(self) -> str: ...

    def ready(self) -> bool: ...

    def raise_if_ended(self) -> None:
        """Raise a `Failure` where there is nothing to wait for any more."""

    def failure(self, sentence: str) -> Failure:
        """Return a sentence with the service's last words as its evidence."""


def is_ready(url: str) -> bool:
    """Tell whether a service takes requests."""
    answer = loopback.ask("GET", f"{url}/readyz") if url else None
    return answer is not None and answer.status == 200


def health(url: str) -> dict[str, Any]:
    """Return what a service says of itself; nothing where it does not answer."""
    answer = loopback.ask("GET", f"{url}/health") if url else None
    try:
        page = json.loads(answer.body) if answer is not None else {}
    except ValueError:
        return {}
    return page if isinstance(page, dict) else {}


def model(page: dict[str, Any]) -> str:
    """Return the model that a health page tells, empty where it tells none."""
    told = page.get("model")
    if isinstance(told, dict):
        told = told.get("name") or told.get("id")
    return str(told or "")


def wait(service: Started) -> None:
    """Wait until a service is ready, telling what it does.

    Raises:
        Failure: it ended, ends again and again, or makes no progress.
    """
    with Progress("Waiting for the service") as progress:
        state, since = "silent", time.monotonic()
        while not service.ready():
            service.raise_if_ended()
            page = health(service.url)
            now = time.monotonic()
            if page.get("state", "silent") != state:
                state, since = str(page.get("state", "silent")), now
            sentence = str(page.get("note") or state)
            if now - since > PATIENCE_S.get(state, float("inf")):
                raise service.failure(f"The service does not get ready: {sentence}")
            progress.tell(sentence)
            time.sleep(LOOK_EVERY_S)
