"""The notes: what is written down about a job beside its row: cancels, answers given; and a trial page."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from consumer.job import Cancelled, State
from consumer.store.records import CANCELLED_FAULT, end_waiting, locked, waits
from consumer.store.tables import Desk, answers, cancels, probes


def remember_cancel(job_id: str, user_id: str | None, any_job: bool, desk: Desk) -> bool:  # noqa: FBT001 - bound by partial
    """Write a cancel down for the next start of a job; whether it waited and so has ended."""
    row = locked(job_id, desk)
    if row is not None and State(row.state) not in {State.NEW, State.RUNNING}:
        return False
    now = desk.now_ms()
    ends = row is not None and _may(row, user_id, any_job) and waits(row, now, desk)
    if ends:
        end_waiting(row, Cancelled(CANCELLED_FAULT), now, desk)
    values = {
        "job_id": job_id,
        "user_id": user_id or "",
        "any_job": any_job,
        "created": now,
    }
    # Repeated, it counts from now; the power to cancel any job is not lost by it.
    renewed = {"created", "any_job"} if any_job else {"created"}
    put(desk.connection, cancels, values, renewed)
    return ends


def _may(row: Any, user_id: str | None, any_job: bool) -> bool:  # noqa: FBT001 - as above
    """Whether this user may call a job off."""
    return any_job or row.user_id in {None, user_id}


def answered(job_id: str, address: str, desk: Desk) -> None:
    """Write down that an address has its answer."""
    values = {"job_id": job_id, "address": address, "created": desk.now_ms()}
    put(desk.connection, answers, values)


def was_answered(job_id: str, address: str, redelivered: bool, desk: Desk) -> bool:  # noqa: FBT001 - bound by partial
    """Whether a redelivery has its answer to the job's latest run; a new request asks for another."""
    this = and_(answers.c.job_id == job_id, answers.c.address == address)
    if desk.connection.execute(select(answers.c.job_id).where(this)).first() is None:
        return False
    if not redelivered:
        desk.connection.execute(delete(answers).where(this))
    return redelivered


def probe(desk: Desk) -> None:
    """Write a page and take it back."""
    mine = probes.c.owner == desk.owner
    desk.connection.execute(delete(probes).where(mine))
    desk.connection.execute(insert(probes).values(owner=desk.owner, data=bytes(8192)))
    desk.connection.execute(delete(probes).where(mine))


def put(
    connection: Connection,
    table: Table,
    values: dict[str, Any],
    renewed: Collection[str] = (),
) -> None:
    """Insert a row, or leave the one that is there but for the columns to renew."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(values)
    if renewed:
        change = {name: values[name] for name in renewed}
        statement = statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns), set_=change
        )
    else:
        statement = statement.on_conflict_do_nothing()
    connection.execute(statement)
