"""What the person at the terminal is told: steps, progress and failures, all on stderr."""

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

Tell = Callable[[str], None]
"""Takes a short text on how a long step is getting on; may be called many times a second."""

_LINE_EVERY_S = 10.0
_LINE_WIDTH = 120
_REDRAW_EVERY_S = 0.1


class Failure(Exception):  # noqa: N818 - it is told to a person, who did not make an "error"
    """Something that the person has to know: one sentence, what to do, and lines that prove it."""

    def __init__(self, sentence: str, remedy: str, evidence: list[str] | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.evidence = evidence or []


def quiet(_text: str) -> None:
    """Take progress and tell nobody."""


def note(text: str) -> None:
    """Tell one line."""
    print(text, file=sys.stderr, flush=True)


def tell_failure(failure: Failure) -> None:
    """Tell the evidence first, so that sentence and remedy stay in sight."""
    for line in failure.evidence:
        note(f"  | {line}")
    note(f"error: {failure.sentence}")
    note(f"  {failure.remedy}")


class Progress:
    """A long step: a line that is redrawn on a terminal, elsewhere a line every ten seconds.

    A step that ends within a second leaves no trace, so that a second run is silent.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._told_at = self._began
        self._live = sys.stderr.isatty()
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._erase()
        if kind is None and (self._told or self._elapsed() >= 1):
            note(f"{self._title}: done in {self._elapsed():.0f} s")

    def tell(self, detail: str) -> None:
        """Tell the state of the step, if it is time for it."""
        now = time.monotonic()
        if now - self._told_at < (_REDRAW_EVERY_S if self._live else _LINE_EVERY_S):
            return
        self._told_at = now
        self._told = True
        line = f"{self._title} ({self._elapsed():.0f} s): {detail}"
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", file=sys.stderr, flush=True)
        else:
            note(line[:_LINE_WIDTH])

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _erase(self) -> None:
        if self._live and self._told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
