"""The database: one thread that reaches it, and one error for whatever keeps it from answering."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, MetaData, func, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
)

from consumer.errors import StartRefusedError
from consumer.store.postgresql import CONNECT_S, Postgresql
from consumer.store.sqlite import Sqlite

T = TypeVar("T")

ANSWER_S = 6.0
"""How long one operation may take before it is broken off, in seconds."""


class StoreLostError(Exception):
    """The database cannot be reached or written: gone, locked for too long, or its disk is full."""


class Kind(Protocol):
    """What differs between the databases; everything but `hang_up` runs in the thread."""

    engine: Engine
    reader: Engine
    """The same connection, for transactions that only read."""

    def prepare(self) -> None: ...
    def lock_schema(self, connection: Connection, /) -> None: ...
    def keep_alive(self) -> None: ...
    def alive(self, owner: str, /) -> bool: ...
    def gone(self) -> bool: ...
    def hang_up(self) -> None: ...
    def checkpoint(self) -> None: ...
    def shrink(self) -> bool: ...
    def release(self) -> None: ...


def kind_of(url: str, owner: str) -> Kind:
    """Return the database that the URL names; it is not touched yet.

    Raises:
        StartRefusedError: it names none that we know.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StartRefusedError(_NO_STORE) from None
    if parsed.get_backend_name() == "postgresql":
        return Postgresql(parsed)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return Sqlite(parsed, owner)
    raise StartRefusedError(_NO_STORE)


_NO_STORE = (
    "The store's URL names no database that can be used: "
    "give sqlite:////absolute/path or postgresql://user:password@host/database."
)


def now_ms(connection: Connection) -> int:
    """Return the time in milliseconds since 1970, by the clock that all owners of a row share.

    That is the server's, so that the clocks of machines need not agree, and this machine's for a
    file. It is read after the row was locked: a wait for the lock must not make it old.
    """
    if connection.dialect.name == "postgresql":
        seconds = func.extract("epoch", func.clock_timestamp())
        return int(connection.execute(select(func.floor(seconds * 1000))).scalar_one())
    return int(datetime.now(tz=UTC).timestamp() * 1000)


class Database:
    """A database of either kind, reached through one thread so that the event loop never waits."""

    def __init__(self, kind: Kind, tables: MetaData) -> None:
        self._kind = kind
        self._tables = tables
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._turn = asyncio.Lock()
        self._ready = False

    async def transaction(self, work: Callable[[Connection], T], *, writes: bool = True) -> T:
        """Do work in a transaction of its own; tables that are missing are created before.

        One that only reads waits for nobody who writes, and nobody waits for it.

        Raises:
            StoreLostError: it did not happen, or nobody can tell whether it did.
        """

        def run() -> T:
            engine = self._kind.engine if writes else self._kind.reader
            with engine.begin() as connection:
                return work(connection)

        return await self.run(run)

    async def run(self, work: Callable[[], T]) -> T:
        """Do work in the thread, once it is our turn; StoreLostError as above."""
        async with self._turn:
            try:
                future = self._thread.submit(self._guarded, work)
            except RuntimeError as error:
                raise StoreLostError("it was closed") from error
            return await self._answer(future)

    async def close(self) -> None:
        """Finish what is under way and disconnect; may be called twice, or without a start."""

        def leave() -> None:
            self._kind.engine.dispose()
            self._kind.release()

        async with self._turn:
            try:
                future = self._thread.submit(leave)
            except RuntimeError:  # it was shut before
                return
            self._thread.shutdown(wait=False)
            with contextlib.suppress(StoreLostError):  # then it is closed all the more
                await self._answer(future)

    async def _answer(self, future: "Future[T]") -> T:
        """Wait for the thread, but not for ever: a database that hangs is one that is lost."""
        answer = asyncio.wrap_future(future)
        # Who waits may be cancelled; what the thread does then ends unheard.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        for patience_s in (ANSWER_S, CONNECT_S + 1):
            # What was broken off may first find out, by a new connection, that nobody is there.
            done, _ = await asyncio.wait({answer}, timeout=patience_s)
            if done:
                return answer.result()
            self._kind.hang_up()
        raise StoreLostError(f"no answer within {ANSWER_S + CONNECT_S + 1:g} s")

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            self._be_ready()
            return work()
        except StoreLostError:
            self._drop()
            raise
        except OSError as error:
            self._drop()
            raise StoreLostError(str(error)) from error
        except (DBAPIError, sqlite3.Error) as error:
            if not _lost(error):
                raise
            self._drop()
            # The statement and its values, among them a prompt or a picture, stay out of logs.
            raise StoreLostError(str(getattr(error, "orig", error))) from None

    def _be_ready(self) -> None:
        if self._kind.gone():
            raise StoreLostError("the database file was deleted or replaced under us")
        if self._ready:
            return
        self._kind.prepare()
        with self._kind.engine.begin() as connection:
            self._kind.lock_schema(connection)
            self._tables.create_all(connection)
            _add_missing_columns(self._tables, connection)
        self._ready = True

    def _drop(self) -> None:
        """Start with a fresh connection next time, and look for the tables: they may be gone too."""
        self._ready = False
        self._kind.engine.dispose()


def _add_missing_columns(tables: MetaData, connection: Connection) -> None:
    """Bring tables that an earlier version made to what this one needs; their rows stay."""
    there = inspect(connection)
    quote = connection.dialect.identifier_preparer.quote
    for table in tables.sorted_tables:
        names = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in names:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(
                    f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"
                )
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _lost(error: DBAPIError | sqlite3.Error) -> bool:
    """Tell a database that does not serve us from a statement that is wrong."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        # A damaged file is a plain DatabaseError; SQLITE_ERROR is bad syntax, or no such column.
        served = (
            isinstance(cause, sqlite3.OperationalError) or type(cause) is sqlite3.DatabaseError
        )
        return served and getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    known = isinstance(error, (OperationalError, InterfaceError, InternalError))
    return known or (isinstance(error, DBAPIError) and error.connection_invalidated)
