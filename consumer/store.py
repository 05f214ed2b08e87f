"""The store: jobs and their results, so that a redelivery is answered and not drawn again."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from consumer.errors import Fault
from consumer.job import (
    FINAL_STATE,
    Cancelled,
    Failed,
    IdSource,
    Job,
    Outcome,
    State,
    Succeeded,
    move,
)
from schemas.errors import ErrorCode, ErrorInfo
from schemas.reply import ResultFacts

T = TypeVar("T")

_metadata = MetaData()
_jobs = Table(
    "jobs",
    _metadata,
    Column("id", String(128), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("updated", Integer, nullable=False, index=True),
    Column("facts", String),
    Column("error", String),
    Column("image", LargeBinary),
    Column("image_bytes", Integer, nullable=False),
)

DAY_S = 86_400

CANCELLED_FAULT = Fault(ErrorCode.CANCELLED, "The job was cancelled.")


@dataclass(frozen=True, slots=True)
class Started:
    """The job is ours to run; the attempt is already counted."""

    attempt: int
    deaths: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The job was finished before: this is its answer."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Conflict:
    """The same id was used with another body."""


Begun = Started | Finished | Conflict


class Store:
    """Jobs in a SQL database, reached through one thread so that the event loop never waits."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._engine: Any = None

    async def open(self) -> None:
        """Connect, and create the tables where they are missing."""
        await self._run(self._open)

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        await self._run(lambda: self._engine and self._engine.dispose())
        self._thread.shutdown()

    async def begin(self, job: Job, *, redelivered: bool) -> Begun:
        """Start a job, or return what became of it earlier; one transaction.

        An id that we derived is looked up on a redelivery only: two requests with the same
        correlation id and body are two requests.
        """
        looked_up = job.id_source is IdSource.GIVEN or redelivered
        work = functools.partial(_begin, job, looked_up)
        try:
            return await self._transaction(work)
        except IntegrityError:
            # Another consumer began the same job in the same moment; now its row is there.
            return await self._transaction(work)

    async def finish(self, job_id: str, outcome: Outcome) -> None:
        """Write the outcome down; from now on it is what a redelivery is answered with."""
        await self._transaction(functools.partial(_finish, job_id, outcome))

    async def count_death(self, job_id: str) -> int:
        """Count one death or hang of the GPU process in this job; return how many there were."""
        return await self._transaction(functools.partial(_count_death, job_id))

    async def remember_cancel(self, job_id: str) -> None:
        """Let a job that was not seen yet die on arrival."""
        await self._transaction(functools.partial(_remember_cancel, job_id))

    async def prune(self, ttl_s: int, max_bytes: int) -> int:
        """Remove what is older than `ttl_s` and the oldest results beyond `max_bytes`.

        Returns how many jobs were removed.
        """
        return await self._transaction(functools.partial(_prune, ttl_s, max_bytes))

    def _open(self) -> None:
        sqlite = self._url.get_backend_name() == "sqlite"
        if sqlite and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(self._url, pool_pre_ping=True)
        if sqlite:
            event.listen(self._engine, "connect", _set_pragmas)
        _metadata.create_all(self._engine)

    async def _transaction(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await self._run(run)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _set_pragmas(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")


def _now() -> int:
    return int(datetime.now(tz=UTC).timestamp())


def _begin(job: Job, looked_up: bool, connection: Connection) -> Begun:  # noqa: FBT001 - bound by partial
    row = connection.execute(
        select(_jobs).where(_jobs.c.id == job.id).with_for_update()
    ).one_or_none()
    if row is None:
        connection.execute(
            insert(_jobs).values(
                id=job.id,
                body_sha256=job.body_sha256,
                state=State.RUNNING,
                attempts=1,
                deaths=0,
                updated=_now(),
                image_bytes=0,
            )
        )
        return Started(attempt=1, deaths=0)
    attempts, deaths = 1, 0
    if looked_up:
        earlier = _earlier(job, row)
        if earlier is not None:
            return earlier
        move(State(row.state), State.RUNNING)
        attempts, deaths = row.attempts + 1, row.deaths
    connection.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id)
        .values(
            body_sha256=job.body_sha256,
            state=State.RUNNING,
            attempts=attempts,
            deaths=deaths,
            updated=_now(),
            facts=None,
            error=None,
            image=None,
            image_bytes=0,
        )
    )
    return Started(attempts, deaths)


def _earlier(job: Job, row: Any) -> Finished | Conflict | None:
    """Return the answer that a stored job gives, or None if it has to be run."""
    state = State(row.state)
    if state is State.CANCELLED:
        return Finished(Cancelled(CANCELLED_FAULT))
    if row.body_sha256 != job.body_sha256:
        return Conflict()
    try:
        if state is State.SUCCEEDED and row.image is not None:
            facts = ResultFacts.model_validate_json(row.facts)
            return Finished(Succeeded(facts.model_copy(update={"replayed": True}), row.image))
        if state is State.FAILED and not (fault := _fault(row.error)).retryable:
            return Finished(Failed(fault))
    except ValidationError:
        # Written by another version of ours: draw it again.
        return None
    return None


_ERROR = TypeAdapter(ErrorInfo)


def _fault(error: str) -> Fault:
    info = _ERROR.validate_json(error)
    return Fault(info.code, info.message, info.details)


def _finish(job_id: str, outcome: Outcome, connection: Connection) -> None:
    state = connection.execute(
        select(_jobs.c.state).where(_jobs.c.id == job_id).with_for_update()
    ).scalar_one_or_none()
    if state != State.RUNNING:
        # Another consumer drew it meanwhile, or it was pruned: the first end counts.
        return
    values: dict[str, Any] = {
        "state": move(State.RUNNING, FINAL_STATE[type(outcome)]),
        "updated": _now(),
    }
    if isinstance(outcome, Succeeded):
        values |= {
            "facts": outcome.facts.model_dump_json(),
            "image": outcome.image,
            "image_bytes": len(outcome.image),
        }
    fault = getattr(outcome, "fault", None)
    if fault is not None:
        values["error"] = fault.info().model_dump_json()
    connection.execute(update(_jobs).where(_jobs.c.id == job_id).values(**values))


def _count_death(job_id: str, connection: Connection) -> int:
    connection.execute(
        update(_jobs).where(_jobs.c.id == job_id).values(deaths=_jobs.c.deaths + 1)
    )
    return int(
        connection.execute(select(_jobs.c.deaths).where(_jobs.c.id == job_id)).scalar_one()
    )


def _remember_cancel(job_id: str, connection: Connection) -> None:
    state = connection.execute(
        select(_jobs.c.state).where(_jobs.c.id == job_id).with_for_update()
    ).scalar_one_or_none()
    if state is None:
        connection.execute(
            insert(_jobs).values(
                id=job_id,
                body_sha256="",
                state=State.CANCELLED,
                attempts=0,
                deaths=0,
                updated=_now(),
                image_bytes=0,
            )
        )
    elif State(state) is State.NEW:
        # Given back by a stop, and in the queue again. One that runs is stopped by its runner.
        connection.execute(
            update(_jobs)
            .where(_jobs.c.id == job_id)
            .values(state=move(State.NEW, State.CANCELLED), updated=_now())
        )


def _prune(ttl_s: int, max_bytes: int, connection: Connection) -> int:
    oldest = _now() - int(timedelta(seconds=ttl_s).total_seconds())
    ended = _jobs.c.state.not_in([State.NEW, State.RUNNING])
    # What a killed service left running and nobody brought again is over after a day, too.
    left = _jobs.c.updated < min(oldest, _now() - DAY_S)
    past = and_(ended, _jobs.c.updated < oldest)
    removed = connection.execute(delete(_jobs).where(or_(past, left))).rowcount
    total = connection.execute(select(func.sum(_jobs.c.image_bytes))).scalar() or 0
    if total > max_bytes:
        rows = connection.execute(
            select(_jobs.c.id, _jobs.c.image_bytes)
            .where(ended, _jobs.c.image_bytes > 0)
            .order_by(_jobs.c.updated)
        ).all()
        for row in rows:
            if total <= max_bytes:
                break
            connection.execute(delete(_jobs).where(_jobs.c.id == row.id))
            total -= row.image_bytes
            removed += 1
    return int(removed)
