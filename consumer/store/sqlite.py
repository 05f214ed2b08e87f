"""SQLite as the store: one file for the services of one machine."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from consumer.store.owners import Owners

BUSY_MS = 5000
"""How long another writer of the file is waited for, in milliseconds."""

PRAGMAS = (
    # Before the first table, or it has no effect: freed pages can be given back in small parts.
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    # A killed process loses nothing with NORMAL either, but a power cut may then undo the last
    # commits: the picture of a request without `reply_to`, acked by now, would be nowhere. On a
    # virtual disk begin took 3 ms and finish with 1.5 MB took 8 ms at the median with either.
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={BUSY_MS}",
)

_READS = "imagegen_reads"
"""The option of a connection that will only read."""

SHRINK_PAGES = 1024
"""Pages of 4 KiB given back in one go, while others wait."""


class Sqlite:
    """One file of this machine, and the proofs of life of the stores that share it."""

    def __init__(self, url: URL, owner: str) -> None:
        self._path = Path(url.database or "").absolute()
        self._owners = Owners(self._path.with_name(f"{self._path.name}.owners"), owner)
        self._file: tuple[int, int] | None = None
        self._raw: sqlite3.Connection | None = None
        self.engine: Engine = create_engine(
            url,
            hide_parameters=True,  # no prompt in an error that is logged
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
        )
        event.listen(self.engine, "connect", self._connected)
        event.listen(self.engine, "close", self._closed)
        event.listen(self.engine, "begin", _begin)
        self.reader: Engine = self.engine.execution_options(**{_READS: True})

    def prepare(self) -> None:
        """Make the folder and prove that we live; remove what dead services left."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._owners.hold()
        self._owners.sweep()

    def lock_schema(self, connection: Connection) -> None:
        """Nothing to do: a transaction has the file to itself."""

    def keep_alive(self) -> None:
        """Renew the proof that we live, should somebody have removed it."""
        self._owners.hold()

    def alive(self, owner: str) -> bool:
        """Whether the process of this owner exists."""
        return self._owners.alive(owner)

    def gone(self) -> bool:
        """Whether the file that we write has no name any more, which SQLite does not notice."""
        return self._file is not None and self._file != _identity(self._path)

    def hang_up(self) -> None:
        """Break off what is under way; called from another thread."""
        if self._raw is not None:
            self._raw.interrupt()

    def checkpoint(self) -> None:
        """Empty the log into the file, unless somebody is in the way, so that both can shrink."""
        self._script("PRAGMA wal_checkpoint(TRUNCATE)")

    def shrink(self) -> bool:
        """Give some free pages back to the disk; whether there may be more."""
        # A script, since sqlite3 would run a statement without columns for one page only.
        self._script(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
        with self.engine.begin() as connection:
            return bool(connection.exec_driver_sql("PRAGMA freelist_count").scalar())

    def release(self) -> None:
        """Be gone for the other services."""
        self._owners.release()

    def _script(self, sql: str) -> None:
        with self.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            raw.executescript(sql)

    def _connected(self, raw: sqlite3.Connection, _: object) -> None:
        raw.isolation_level = None  # the driver starts no transaction of its own: see _begin
        for pragma in PRAGMAS:
            raw.execute(pragma)
        self._raw = raw
        self._file = _identity(self._path)

    def _closed(self, _raw: object, _record: object) -> None:
        self._raw = self._file = None


def _begin(connection: Connection) -> None:
    # Writers from the first statement on: what one reads, no other changes before it has written.
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, on every transaction
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
