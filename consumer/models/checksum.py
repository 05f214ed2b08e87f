"""The checksum of a file, as the hub names it: SHA-256 of a large one, git's SHA-1 of the others."""

import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO

from consumer.models.selection import Recorded

CHUNK_BYTES = 4 << 20


def checksum(record: Recorded) -> Any:
    """Return a checksum that has read nothing of the file yet, for `update` and `hexdigest`."""
    if record.sha256 is not None:
        return hashlib.sha256()
    # Git's own, which is no guard against an attacker; the large files have the better one.
    return hashlib.sha1(f"blob {record.size}\0".encode(), usedforsecurity=False)


def read_into(digest: Any, file: BinaryIO, note: Callable[[int], None] = lambda _: None) -> int:
    """Read a file from where it stands to its end. Returns how many bytes were read."""
    read = 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        read += len(chunk)
        note(len(chunk))
    return read
