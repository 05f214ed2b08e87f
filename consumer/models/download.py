"""The download of one file: taken up where it was left, checked as it comes, in place only when whole."""

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from consumer.models.checksum import checksum, read_into
from consumer.models.hub import Hub
from consumer.models.selection import Recorded
from consumer.models.trouble import ModelTroubleError

TRIES = 6
"""In a row that brought nothing."""
FIRST_WAIT_S = 0.5
"""Before the second try; twice as long before each further one."""
_LATER = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that may be others a little later."""
PART, NO_SUCH_PART = 206, 416
"""HTTP's own words for the answer to a Range."""


class StoppedError(Exception):
    """Whoever wanted the file wants it no more."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who is told how far it is, and has it stop."""

    note: Callable[[int], None]
    """So many bytes more; below 0 where they were no good."""
    stop: threading.Event


def unfinished(record: Recorded, blobs: Path) -> Path:
    """Return where a file grows until it is whole."""
    return blobs / f"{record.blob}.incomplete"


def download(hub: Hub, address: str, record: Recorded, blobs: Path, reader: Reader) -> None:
    """Have a file in `blobs`, under its checksum.

    Raises ModelTroubleError, StoppedError or OSError; what had come stays for the next time.
    """
    path, whole = unfinished(record, blobs), blobs / record.blob
    with path.open("ab+") as file:
        # Two that pull at once would write into the same file: the second waits, and finds it there.
        fcntl.flock(file, fcntl.LOCK_EX)
        # One of another size was cut off by a full disk, or by hand: it is replaced at the end.
        if whole.is_file() and whole.stat().st_size == record.size:
            path.unlink(missing_ok=True)
            reader.note(record.size)
            return
        grown = _Grown(file, record, reader)
        _bring(hub, address, grown)
        grown.check()
        file.flush()
        os.fsync(file.fileno())
        path.replace(whole)


class _Grown:
    """A file that grows, with its checksum; what a former try left of it is taken up."""

    def __init__(self, file: BinaryIO, record: Recorded, reader: Reader) -> None:
        self.record = record
        self.reader = reader
        self.size = 0
        """Bytes that are here."""
        self._file = file
        self._digest = checksum(record)
        if os.fstat(file.fileno()).st_size > record.size:
            file.truncate(0)
        file.seek(0)
        self.size = read_into(self._digest, file)

    def add(self, chunk: bytes) -> None:
        """Append what came. Raises StoppedError."""
        if self.reader.stop.is_set():
            raise StoppedError
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        self.reader.note(len(chunk))

    def start_over(self) -> None:
        """Forget what is here."""
        self._file.truncate(0)
        self.reader.note(-self.size)
        self.size, self._digest = 0, checksum(self.record)

    def check(self) -> None:
        """Compare with what the hub records. Raises ModelTroubleError."""
        if self.size == self.record.size and self._digest.hexdigest() == self.record.blob:
            return
        self.start_over()
        raise ModelTroubleError(
            "corrupt",
            f"{self.record.path} does not come as the hub records it. Try again; if it stays so, "
            "something between here and the hub changes it.",
        )


def _bring(hub: Hub, address: str, grown: _Grown) -> None:
    """Bring the rest of a file, over as many connections as it takes."""
    tries = 0
    while grown.size < grown.record.size:
        had = grown.size
        try:
            _read_answer(hub, address, grown)
            problem: Exception = ConnectionError("it breaks off, or is busy")
        except httpx.TransportError as error:
            problem = error
        tries = tries + 1 if grown.size <= had else 0
        if tries >= TRIES:
            raise hub.unreachable(problem)
        if grown.size < grown.record.size and grown.reader.stop.wait(FIRST_WAIT_S * 2**tries):
            raise StoppedError


def _read_answer(hub: Hub, address: str, grown: _Grown) -> None:
    """Read one answer as far as it goes."""
    headers = {"Range": f"bytes={grown.size}-"} if grown.size else {}
    with hub.client.stream("GET", address, headers=headers) as answer:
        if answer.status_code in _LATER:
            return
        if answer.status_code == NO_SUCH_PART:
            grown.start_over()
            return
        if not answer.is_success:
            answer.read()
            raise hub.refused(answer)
        if grown.size and answer.status_code != PART:
            # It does not give parts: this is the file from its beginning.
            grown.start_over()
        # As it comes: what waits for a larger piece is lost with the connection.
        for chunk in answer.iter_raw():
            grown.add(chunk)
