"""The waiting: jobs that were written down before they were published, until a consumer has them."""

from sqlalchemy import delete

from consumer.job import Job, Outcome, State
from consumer.store import records
from consumer.store.begun import Conflict, Known
from consumer.store.tables import Desk, jobs, milliseconds

_ASKED_AGAIN = frozenset({State.FAILED, State.EXPIRED, State.ABANDONED})
"""States in which another request for the job has it waiting again, unless its failure stays."""


def enqueue(job: Job, desk: Desk) -> Known | Conflict | None:
    """Write down that a job waits; or return what is known of it, where it was there before.

    One that waits already is given the later deadline.
    """
    row = records.locked(job.id, desk)
    now = desk.now_ms()
    waiting = {"state": State.NEW, "updated": now}
    if row is None:
        records.write_new(job, {**waiting, "attempts": 0}, now, desk)
        return None
    if row.body_sha256 != job.body_sha256:
        return Conflict()
    state = State(row.state)
    if state is State.NEW:
        deadline = max(milliseconds(job.deadline), row.deadline or 0)
        records.change(job.id, {"deadline": deadline}, desk.connection)
    if state not in _ASKED_AGAIN or records.failed_for_good(row):
        return Known(state)
    again = {"owner": desk.owner, "created": now, "deadline": milliseconds(job.deadline)}
    records.start_over(job.id, {**waiting, **again}, desk.connection)
    return None


def withdraw(job_id: str, desk: Desk) -> None:
    """Undo `enqueue`, unless somebody has taken the job meanwhile."""
    ours = (jobs.c.id == job_id, jobs.c.state == State.NEW, jobs.c.owner == desk.owner)
    desk.connection.execute(delete(jobs).where(*ours))


def close(job_id: str, body_sha256: str, outcome: Outcome, desk: Desk) -> bool:
    """Write the end of a job that waits; False if this very job does not."""
    row = records.locked(job_id, desk)
    if row is None or State(row.state) is not State.NEW or row.body_sha256 != body_sha256:
        return False
    records.end_waiting(job_id, outcome, desk.now_ms(), desk)
    return True
