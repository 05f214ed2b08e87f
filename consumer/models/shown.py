"""How far it is: a bar on a terminal, elsewhere a line every ten seconds."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY_S = 10.0


def in_units(size: float) -> str:
    """Return bytes as people read them, in powers of ten, as disks and hubs count."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class Shown:
    """Bytes and files of a piece of work, told as they come; safe to call from any thread."""

    def __init__(self, console: Console, verb: str, files: int, size: int) -> None:
        self._console = console
        self._verb = verb
        self._files = files
        self._size = size
        self._done = 0
        self._had = 0
        self._ended = 0
        self._lock = threading.Lock()
        self._started = self._told = time.monotonic()
        self._bar = _bar(console)
        self._task = self._bar.add_task(self._words(), total=size)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def had(self, size: int, files: int) -> None:
        """So much needed no work; it does not count into the rate."""
        with self._lock:
            self._had += size
            self._ended += files
        self.note(size)

    def note(self, size: int) -> None:
        """So many bytes more are done; below 0, fewer."""
        with self._lock:
            self._done += size
            self._tell()

    def file(self) -> None:
        """One file more is done."""
        with self._lock:
            self._ended += 1
            self._tell()

    def _tell(self) -> None:
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done, description=self._words())
            return
        now = time.monotonic()
        if now - self._told >= LINE_EVERY_S:
            self._told = now
            self._console.print(self._line(now - self._started), soft_wrap=True)

    def _words(self) -> str:
        return f"{self._verb} {self._ended}/{self._files} files"

    def _line(self, seconds: float) -> str:
        rate = in_units(max(0, self._done - self._had) / seconds)
        return f"{self._words()}, {in_units(self._done)} of {in_units(self._size)}, {rate}/s"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
