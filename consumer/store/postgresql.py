"""PostgreSQL as the store: one server for the consumers of several machines."""

import contextlib
import os
import socket
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select

CONNECT_S = 3
"""How long a connection may take to be made, in seconds."""
SCHEMA_LOCK = 0x696D6167
"""Key of the advisory lock under which tables are created: "imag"."""

LIMITS = (
    # The server's own limits come before ours (database.ANSWER_S), so that its locks go with them.
    "SET statement_timeout = '5s'",
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '30s'",
)


class Postgresql:
    """One server; leases alone say who lives, since our connection is not our life."""

    def __init__(self, url: URL) -> None:
        self._raw: Any = None
        self.engine: Engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,  # no prompt in an error that is logged
            pool_pre_ping=True,  # a server that was restarted is noticed before a job's statement
            pool_size=1,
            max_overflow=0,
            isolation_level="READ COMMITTED",  # whatever the server's default: row locks do the rest
            connect_args={
                "connect_timeout": CONNECT_S,
                "prepare_threshold": None,  # behind a pooler the next statement meets another session
            },
        )
        event.listen(self.engine, "connect", self._connected)
        self.reader: Engine = self.engine
        """The same: here who reads is in nobody's way."""

    def prepare(self) -> None:
        """Nothing to do: a server needs no folder of ours."""

    def lock_schema(self, connection: Connection) -> None:
        """Create tables alone: two that create the same one trip over each other."""
        connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    def keep_alive(self) -> None:
        """Nothing to do: the lease is the proof."""

    def alive(self, _owner: str) -> bool:
        """Nothing speaks against it: the lease alone decides."""
        return True

    def gone(self) -> bool:
        """Never unnoticed: a server that goes takes our connection with it."""
        return False

    def hang_up(self) -> None:
        """Break off what is under way; called from another thread.

        A server that is stopped or cut off sends no word, and libpq has no limit for that.
        """
        raw = self._raw
        if raw is None or raw.closed:
            return
        # The other thread may close it in the same moment.
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(raw.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    def checkpoint(self) -> None:
        """Nothing to do: the server's own affair."""

    def shrink(self) -> bool:
        """Nothing to do: autovacuum makes the room free again."""
        return False

    def release(self) -> None:
        """Nothing to do."""

    def _connected(self, raw: Any, _: object) -> None:
        self._raw = raw
        with raw.cursor() as cursor:
            for limit in LIMITS:
                cursor.execute(limit)
        raw.commit()
