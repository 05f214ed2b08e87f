"""The asking: looks at something in a thread of its own, and waits for the answer no longer than told."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NoAnswerError(Exception):
    """What was asked did not answer in time, or broke; the message tells which."""


class Asked(Generic[T]):
    """A look that has begun; whoever wants its answer waits for it until its time is over.

    A driver or a network that hangs keeps its thread, which does not keep the process.
    """

    def __init__(self, look: Callable[[], T], limit_s: float) -> None:
        self._look = look
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._answer: list[T | NoAnswerError] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def answer(self) -> T:
        """Return what was seen. Raises NoAnswerError; may be called again."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        if not self._answer:
            raise NoAnswerError(f"no answer within {self._limit_s:g} s")
        if isinstance(self._answer[0], NoAnswerError):
            raise self._answer[0]
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._look())
        except Exception as error:  # noqa: BLE001 - whatever it is, the other checks go on
            self._answer.append(NoAnswerError(f"{type(error).__name__}: {error}"))
