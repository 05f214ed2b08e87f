"""The waiting: jobs that were written down before they were published, until a consumer has them."""

from typing import Any

from sqlalchemy import delete

from consumer.errors import Fault
from consumer.job import Failed, Job, Outcome, State, move
from consumer.store import records
from consumer.store.begun import Conflict, Known
from consumer.store.lookup import is_overdue
from consumer.store.tables import Desk, jobs, milliseconds

_ASKED_AGAIN = frozenset({State.FAILED, State.EXPIRED, State.ABANDONED})
"""States in which another request for the job has it waiting again, unless its failure stays."""
NOBODY = ""
"""The owner of a job that more than one asked for: none of them may withdraw it."""


def enqueue(job: Job, desk: Desk) -> Known | Conflict | None:
    """Write down that a job waits; or return what is known of it, where it was there before.

    One that waits already is given the later deadline; one that ran out waits again.
    """
    row = records.locked(job.id, desk)
    now = desk.now_ms()
    if row is None:
        new = {"state": State.NEW, "updated": now, "attempts": 0}
        records.write_new(job, new, now, desk)
        return None
    if row.body_sha256 != job.body_sha256:
        return Conflict()
    state = State(row.state)
    if records.waits(row, now, desk):
        if not is_overdue(row, now):
            _wait_longer(row, job, desk)
            return Known(State.NEW)
    elif state not in _ASKED_AGAIN or records.failed_for_good(row):
        return Known(state)
    again = {
        "state": state if state is State.NEW else move(state, State.NEW),
        "updated": now,
        "owner": desk.owner,
        "created": now,
        "started": None,
        "deadline": milliseconds(job.deadline),
    }
    records.start_over(job.id, again, desk.connection)
    return None


def _wait_longer(row: Any, job: Job, desk: Desk) -> None:
    """Have a job wait for one more who asked for it, and belong to none of them."""
    changes: dict[str, Any] = {"deadline": max(milliseconds(job.deadline), row.deadline or 0)}
    if State(row.state) is State.NEW:
        changes["owner"] = NOBODY
    records.change(job.id, changes, desk.connection)


def withdraw(job_id: str, fault: Fault, desk: Desk) -> None:
    """Undo `enqueue`, unless somebody has taken the job meanwhile, or asked for it too.

    What is known of an earlier run stays, deaths above all: then the refusal is its end.
    """
    row = records.locked(job_id, desk)
    if row is None or State(row.state) is not State.NEW or row.owner != desk.owner:
        return
    if row.attempts:
        records.end_waiting(row, Failed(fault), desk.now_ms(), desk)
    else:
        desk.connection.execute(delete(jobs).where(jobs.c.id == job_id))


def close(job_id: str, body_sha256: str, outcome: Outcome, desk: Desk) -> bool:
    """Write the end of a job that waits; False if this very job does not."""
    row = records.locked(job_id, desk)
    now = desk.now_ms()
    if row is None or row.body_sha256 != body_sha256 or not records.waits(row, now, desk):
        return False
    records.end_waiting(row, outcome, now, desk)
    return True
