"""The lookup: what the store tells of jobs to who follows them. It changes nothing."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, and_, func, not_, or_, select, tuple_

from consumer.job import Drawing, State
from consumer.store.tables import Desk, images, jobs, pruned
from schemas.errors import ErrorInfo
from schemas.reply import ResultFacts
from schemas.status import JobState

OVERDUE_MS = 5000
"""After the deadline: time for the end of a job that waits to be written down by somebody."""
LINE_MOST = 1000

_ERROR = TypeAdapter(ErrorInfo)
_CREATED = func.coalesce(jobs.c.created, jobs.c.updated)


@dataclass(frozen=True, slots=True)
class Record:
    """A job as the store has it. Times are milliseconds since 1970, by the store's clock."""

    id: str
    status: JobState
    user_id: str | None
    created: int
    started: int | None
    ended: int | None
    deadline: int | None
    attempts: int
    owner: str
    """Who has it or had it last: worker and boot."""
    drawing: Drawing | None
    """None of a job whose result was removed, or that an earlier version wrote."""
    error: ErrorInfo | None
    facts: ResultFacts | None
    """Of a job that succeeded, while its picture is kept."""
    pruned: bool
    abandoned: bool
    """It was cancelled because nobody waited any more."""


@dataclass(frozen=True, slots=True)
class Place:
    """What takes its time in front of a job."""

    job_id: str
    drawing: Drawing | None
    since: int
    """When it was published, or started."""


@dataclass(frozen=True, slots=True)
class Line:
    """Those that wait, the first first, and those that run; as far as the store knows of them."""

    waiting: tuple[Place, ...]
    running: tuple[Place, ...]
    now: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are to be listed."""

    limit: int
    before: tuple[int, str] | None = None
    """(`created`, `id`) of the last one of the page before."""
    status: JobState | None = None
    user_id: str | None = None
    """Only those of this user, and those of nobody in particular."""


NO_LINE = Line((), (), 0)
"""For who asks about no job that waits."""


def find(job_id: str, desk: Desk) -> Record | None:
    """Return a job, or what is left of it; None where nothing is known."""
    row = desk.connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is not None:
        return _record(row, desk.now_ms())
    found = select(pruned).where(pruned.c.job_id == job_id)
    trace = desk.connection.execute(found).one_or_none()
    return None if trace is None else _trace(trace, desk.now_ms())


def picture(job_id: str, desk: Desk) -> bytes | None:
    """Return the picture of a job, while it is kept."""
    found = select(images.c.data).where(images.c.job_id == job_id)
    data = desk.connection.execute(found).scalar()
    return None if data is None else bytes(data)


def recent(wanted: Wanted, desk: Desk) -> list[Record]:
    """Return some jobs, the newest first."""
    now = desk.now_ms()
    these: list[ColumnElement[bool]] = []
    if wanted.before is not None:
        these.append(tuple_(_CREATED, jobs.c.id) < tuple_(*wanted.before))
    if wanted.status is not None:
        these.append(_in_state(wanted.status, now))
    if wanted.user_id is not None:
        these.append(or_(jobs.c.user_id == wanted.user_id, jobs.c.user_id.is_(None)))
    newest = (_CREATED.desc(), jobs.c.id.desc())
    found = select(jobs).where(*these).order_by(*newest).limit(wanted.limit)
    return [_record(row, now) for row in desk.connection.execute(found)]


def line(desk: Desk) -> Line:
    """Return what waits and what runs."""
    now = desk.now_ms()

    def places(status: JobState, since: Any) -> tuple[Place, ...]:
        columns = (jobs.c.id, jobs.c.drawing, since.label("since"))
        found = select(*columns).where(_in_state(status, now)).order_by(since, jobs.c.id)
        rows = desk.connection.execute(found.limit(LINE_MOST))
        return tuple(Place(row.id, _drawing(row.drawing), row.since or now) for row in rows)

    return Line(places("queued", _CREATED), places("running", jobs.c.started), now)


# ---------------------------------------------------------------- state

_SHOWN: dict[State, JobState] = {
    State.NEW: "queued",
    State.RUNNING: "running",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.ABANDONED: "cancelled",
}


def _status(row: Any, now: int) -> JobState:
    """Return what a row means now: the broker has what nobody runs, until nobody wants it."""
    state = State(row.state)
    waits = state is State.NEW or (state is State.RUNNING and row.lease_until <= now)
    if not waits:
        return _SHOWN[state]
    return "expired" if is_overdue(row, now) else "queued"


def is_overdue(row: Any, now: int) -> bool:
    """Whether nobody wants a job any more that waits, though nobody wrote that down."""
    return row.deadline is not None and row.deadline + OVERDUE_MS < now


def _in_state(status: JobState, now: int) -> ColumnElement[bool]:
    """`_status` as a condition."""
    waits = or_(
        jobs.c.state == State.NEW,
        and_(jobs.c.state == State.RUNNING, jobs.c.lease_until <= now),
    )
    overdue = func.coalesce(jobs.c.deadline + OVERDUE_MS < now, False)
    if status == "queued":
        return and_(waits, not_(overdue))
    states = [state for state, shown in _SHOWN.items() if shown == status]
    there = and_(jobs.c.state.in_(states), not_(waits))
    return or_(there, and_(waits, overdue)) if status == "expired" else there


# ---------------------------------------------------------------- rows


def _record(row: Any, now: int) -> Record:
    status = _status(row, now)
    facts = _facts(row.facts) if status == "succeeded" and row.image_bytes else None
    return Record(
        id=row.id,
        status=status,
        user_id=row.user_id,
        created=row.created or row.updated,
        started=row.started,
        ended=_ended(row, status),
        deadline=row.deadline,
        attempts=row.attempts,
        owner=row.owner if row.attempts else "",
        drawing=_drawing(row.drawing),
        error=_error(row.error),
        facts=facts,
        pruned=status == "succeeded" and facts is None,
        abandoned=State(row.state) is State.ABANDONED,
    )


def _ended(row: Any, status: JobState) -> int | None:
    if status in {"queued", "running"}:
        return None
    # Of one that nobody has written the end of, it was the deadline.
    unwritten = status == "expired" and State(row.state) is not State.EXPIRED
    return int(row.deadline if unwritten else row.updated)


def _trace(row: Any, now: int) -> Record:
    return Record(
        id=row.job_id,
        status=_SHOWN[State(row.state)],
        user_id=row.user_id,
        created=row.created or row.ended,
        started=None,
        ended=min(row.ended, now),
        deadline=None,
        attempts=0,
        owner="",
        drawing=None,
        error=None,
        facts=None,
        pruned=True,
        abandoned=State(row.state) is State.ABANDONED,
    )


def _drawing(text: str | None) -> Drawing | None:
    if text is None:
        return None
    try:
        return Drawing(**json.loads(text))
    except (ValueError, TypeError):
        return None  # another version of ours wrote it


def _facts(text: str | None) -> ResultFacts | None:
    try:
        return ResultFacts.model_validate_json(text or "")
    except ValidationError:
        return None


def _error(text: str | None) -> ErrorInfo | None:
    try:
        return None if text is None else _ERROR.validate_json(text)
    except ValidationError:
        return None
