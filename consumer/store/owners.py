"""The owners: a locked file for every open store of a machine, which proves who lives."""

import fcntl
import os
from pathlib import Path
from urllib.parse import quote


class Owners:
    """The owners of one database file; ours is alive from `hold` until `release` or our end.

    The kernel drops a lock with the process that held it, however that ended, and keeps it for
    one that is stopped or stalled. A pid could have been given to somebody else meanwhile.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._held: int | None = None

    def hold(self) -> None:
        """Prove that we live; may be called again, and mends a proof that somebody removed.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._path(self._owner)
        while self._held is None or not _names(path, self._held):
            self.release()
            self._folder.mkdir(parents=True, exist_ok=True)
            # Whoever looks between the two steps takes us for dead and removes the file: once more.
            self._held = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def release(self) -> None:
        """Be gone; may be called twice."""
        held, self._held = self._held, None
        if held is not None:
            if _names(self._path(self._owner), held):
                self._path(self._owner).unlink(missing_ok=True)
            os.close(held)

    def alive(self, owner: str) -> bool:
        """Whether the process of this owner exists; the file of a dead one is removed."""
        path = self._path(owner)
        try:
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(found)

    def sweep(self) -> None:
        """Remove the files of the dead, which nobody asks for any more."""
        for path in self._folder.iterdir():
            if path != self._path(self._owner):
                self.alive(path.name)

    def _path(self, owner: str) -> Path:
        return self._folder / quote(owner, safe="%")


def _names(path: Path, held: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(held))
    except FileNotFoundError:
        return False
