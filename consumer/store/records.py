"""The records: what one transaction does to the rows of a job, from its begin to its end."""

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    Connection,
    and_,
    delete,
    insert,
    literal,
    or_,
    select,
    update,
)

from consumer.errors import Fault
from consumer.job import (
    FINAL_STATE,
    Cancelled,
    Failed,
    Job,
    Outcome,
    State,
    Succeeded,
    move,
)
from consumer.store.begun import Begun, Conflict, Elsewhere, Finished, Started
from consumer.store.database import StoreLostError
from consumer.store.tables import Desk, answers, cancels, images, jobs, milliseconds
from schemas.errors import ErrorCode, ErrorInfo
from schemas.reply import ResultFacts

LEASE_S = 12.0
"""How long a running job is its owner's without a word from it, in seconds."""
LEASE_MS = int(LEASE_S * 1000)

CANCELLED_FAULT = Fault(ErrorCode.CANCELLED, "The job was cancelled.")

_CALLED_OFF = Finished(Cancelled(CANCELLED_FAULT), 0.0)


# ---------------------------------------------------------------- begin


def begin(job: Job, looked_up: bool, desk: Desk) -> Begun:  # noqa: FBT001 - bound by partial
    """Start a job, or tell what stands in the way."""
    row = locked(job.id, desk)
    now = desk.now_ms()
    if row is not None:
        earlier = _earlier(job, row, now, desk) if _speaks(row, looked_up) else None
        if earlier is not None:
            return earlier
        if not _speaks(row, looked_up):
            forget([job.id], desk.connection)
            row = None
    if _is_called_off(job, desk.connection):
        _call_off(job, row, now, desk)
        return _CALLED_OFF
    return _start(job, row, now, desk)


def _speaks(row: Any, looked_up: bool) -> bool:  # noqa: FBT001 - as above
    """Whether a row is about this very request. One that runs is joined by any equal request."""
    return looked_up or State(row.state) is State.RUNNING


def _earlier(job: Job, row: Any, now: int, desk: Desk) -> Begun | None:
    """Return what the row answers to this request, or None if it has to be run."""
    if row.body_sha256 != job.body_sha256:
        return Conflict()
    match State(row.state):
        case State.RUNNING if _is_elsewhere(row, now, desk):
            # A clock that was set back must not keep anybody waiting longer than a lease.
            return Elsewhere(row.owner, min(row.lease_until - now, LEASE_MS) / 1000)
        case State.CANCELLED:
            return _CALLED_OFF
        case State.SUCCEEDED:
            return _picture(row, desk.connection)
        case State.FAILED:
            return _failure(row)
        case State.NEW | State.RUNNING | State.EXPIRED | State.ABANDONED:
            return None


def _is_elsewhere(row: Any, now: int, desk: Desk) -> bool:
    """Whether somebody else holds a live lease."""
    return row.owner != desk.owner and row.lease_until > now and desk.alive(row.owner)


def _picture(row: Any, connection: Connection) -> Finished | None:
    data = connection.execute(select(images.c.data).where(images.c.job_id == row.id)).scalar()
    if data is None:
        return None
    try:
        facts = ResultFacts.model_validate_json(row.facts)
    except ValidationError:
        # Written by another version of ours: draw it again.
        return None
    replayed = facts.model_copy(update={"replayed": True})
    return Finished(Succeeded(replayed, bytes(data)), facts.generation_time)


_ERROR = TypeAdapter(ErrorInfo)


def _failure(row: Any) -> Finished | None:
    try:
        info = _ERROR.validate_json(row.error)
    except ValidationError:
        return None
    fault = Fault(info.code, info.message, info.details)
    return None if fault.retryable else Finished(Failed(fault), 0.0)


def failed_for_good(row: Any) -> bool:
    """Whether a job's end is an error that another request for it would be answered with."""
    return State(row.state) is State.FAILED and _failure(row) is not None


def _is_called_off(job: Job, connection: Connection) -> bool:
    """Whether a cancel came before that speaks for this job's user.

    A job of nobody in particular may be called off by anybody.
    """
    theirs = or_(
        cancels.c.any_job,
        literal(job.user_id is None),
        cancels.c.user_id == (job.user_id or ""),
    )
    found = select(cancels.c.job_id).where(cancels.c.job_id == job.id, theirs).limit(1)
    return connection.execute(found).first() is not None


def _call_off(job: Job, row: Any, now: int, desk: Desk) -> None:
    if row is None:
        move(State.NEW, State.CANCELLED)
        values = {"state": State.CANCELLED, "attempts": 0, "updated": now}
        write_new(job, values, now, desk)
    elif State(row.state) in {State.NEW, State.RUNNING}:
        state = move(State(row.state), State.CANCELLED)
        change(job.id, {"state": state, "updated": now}, desk.connection)


def _start(job: Job, row: Any, now: int, desk: Desk) -> Started:
    values = {
        "state": State.RUNNING,
        "lease_until": now + LEASE_MS,
        "updated": now,
        "started": now,
    }
    if row is None:
        move(State.NEW, State.RUNNING)
        write_new(job, {**values, "attempts": 1}, now, desk)
        return Started(attempt=1, deaths=0)
    move(State(row.state), State.RUNNING)
    attempt = row.attempts + 1
    ours = {"owner": desk.owner, "attempts": attempt, **_asked(job)}
    start_over(job.id, {**values, **ours}, desk.connection)
    return Started(attempt, row.deaths)


def write_new(job: Job, values: dict[str, Any], now: int, desk: Desk) -> None:
    """Insert the row of a job."""
    row = {
        "id": job.id,
        "body_sha256": job.body_sha256,
        "user_id": job.user_id,
        "deaths": 0,
        "owner": desk.owner,
        "lease_until": 0,
        "image_bytes": 0,
        # By the publisher's clock; no job was published after now.
        "created": min(milliseconds(job.published), now),
        **_asked(job),
    }
    desk.connection.execute(insert(jobs).values({**row, **values}))


def _asked(job: Job) -> dict[str, Any]:
    """Return the columns that tell what is asked for."""
    return {
        "drawing": json.dumps(asdict(job.drawing), ensure_ascii=False),
        "deadline": milliseconds(job.deadline),
    }


def start_over(job_id: str, values: dict[str, Any], connection: Connection) -> None:
    """Change a row, and remove what an earlier run left."""
    _clear([job_id], connection)
    emptied = {"facts": None, "error": None, "image_bytes": 0}
    change(job_id, {**emptied, **values}, connection)


# ---------------------------------------------------------------- run


def renew(job_ids: list[str], desk: Desk) -> None:
    """Prolong the lease of jobs that we run, ended or not, unless they were taken over."""
    ours = and_(
        jobs.c.id.in_(job_ids), jobs.c.owner == desk.owner, jobs.c.state == State.RUNNING
    )
    until = desk.now_ms() + LEASE_MS
    desk.connection.execute(update(jobs).where(ours).values(lease_until=until))


def count_death(job_id: str, desk: Desk) -> int:
    """Count a death of the GPU process; whoever saw it."""
    change(job_id, {"deaths": jobs.c.deaths + 1}, desk.connection)
    found = select(jobs.c.deaths).where(jobs.c.id == job_id)
    deaths = desk.connection.execute(found).scalar_one_or_none()
    if deaths is None:
        raise StoreLostError("the row of a running job is gone; nobody but others removes it")
    return int(deaths)


def finish(job_id: str, outcome: Outcome, desk: Desk) -> bool:
    """Write the end of a job, if it runs and nobody else holds its lease."""
    row = locked(job_id, desk)
    now = desk.now_ms()
    if row is None or State(row.state) is not State.RUNNING or _is_elsewhere(row, now, desk):
        return False
    values: dict[str, Any] = {
        "state": move(State.RUNNING, FINAL_STATE[type(outcome)]),
        "updated": now,
    }
    if isinstance(outcome, Succeeded):
        values |= {
            "facts": outcome.facts.model_dump_json(),
            "image_bytes": len(outcome.image),
        }
        desk.connection.execute(insert(images).values(job_id=job_id, data=outcome.image))
    fault = getattr(outcome, "fault", None)
    if fault is not None:
        values["error"] = fault.info().model_dump_json()
    change(job_id, values, desk.connection)
    if _stays(outcome):
        # The row itself answers from now on; an old cancel must not meet a later namesake.
        desk.connection.execute(delete(cancels).where(cancels.c.job_id == job_id))
    return True


def _stays(outcome: Outcome) -> bool:
    if FINAL_STATE[type(outcome)] is State.FAILED:
        return not getattr(outcome, "fault").retryable  # noqa: B009 - every failure has one
    return isinstance(outcome, (Succeeded, Cancelled))


# ---------------------------------------------------------------- rows


def waits(row: Any, now: int, desk: Desk) -> bool:
    """Whether a job waits for its turn: the broker has it, or nobody.

    So does one whose service died with it, or lost its lease, until somebody takes it over.
    """
    state = State(row.state)
    held = row.lease_until > now and desk.alive(row.owner)
    return state is State.NEW or (state is State.RUNNING and not held)


def end_waiting(row: Any, outcome: Outcome, now: int, desk: Desk) -> None:
    """Give a job that waits for its turn its end."""
    state = move(State(row.state), FINAL_STATE[type(outcome)])
    fault = getattr(outcome, "fault", None)
    error = None if fault is None else fault.info().model_dump_json()
    change(row.id, {"state": state, "error": error, "updated": now}, desk.connection)


def forget(job_ids: list[str], connection: Connection) -> None:
    """Remove jobs with all that hangs on them."""
    connection.execute(delete(jobs).where(jobs.c.id.in_(job_ids)))
    _clear(job_ids, connection)


def _clear(job_ids: list[str], connection: Connection) -> None:
    """Remove what an earlier run left: its picture, and who was told of its end."""
    connection.execute(delete(images).where(images.c.job_id.in_(job_ids)))
    connection.execute(delete(answers).where(answers.c.job_id.in_(job_ids)))


def locked(job_id: str, desk: Desk) -> Any:
    """Return the row of a job, ours until the transaction ends; None where there is none."""
    found = select(jobs).where(jobs.c.id == job_id).with_for_update()
    return desk.connection.execute(found).one_or_none()


def change(job_id: str, values: dict[str, Any], connection: Connection) -> None:
    """Write values into the row of a job."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
