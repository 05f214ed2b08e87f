"""Retention: what the store forgets, by age and for room, a few rows at a time."""

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
)

from consumer.job import State
from consumer.store.records import forget
from consumer.store.tables import Desk, answers, cancels, jobs, pruned

BATCH = 50
"""The most rows of one transaction: begin and finish wait for one at the most."""
BATCH_BYTES = 8 * 1024 * 1024
"""Beyond so many bytes of pictures a transaction takes no more; it takes one in any case."""
DAY_S = 86_400
TRACE_S = 7 * DAY_S
"""How long it is still known that there was a job whose result was removed."""

_ENDED = jobs.c.state.not_in([State.NEW, State.RUNNING])


def remove_old(ttl_s: int, desk: Desk) -> int:
    """Remove some jobs that ended more than `ttl_s` ago; return how many."""
    now = desk.now_ms()
    oldest = now - ttl_s * 1000
    # What a killed service left running and nobody brought again is over after a day, too.
    left = min(oldest, now - DAY_S * 1000)
    past = or_(
        and_(_ENDED, jobs.c.updated < oldest),
        and_(jobs.c.updated < left, jobs.c.lease_until < left),
    )
    return _remove(_batch(past, desk), desk)


def make_room(max_bytes: int, desk: Desk) -> int:
    """Remove some of the oldest pictures, as far as all take more than `max_bytes`."""
    total = desk.connection.execute(select(func.sum(jobs.c.image_bytes))).scalar() or 0
    excess = int(total) - max_bytes
    if excess <= 0:
        return 0
    surplus = []
    for job_id, size in _batch(jobs.c.image_bytes > 0, desk):
        if excess <= 0:
            break
        surplus.append((job_id, size))
        excess -= size
    return _remove(surplus, desk)


def remove_traces(ttl_s: int, desk: Desk) -> int:
    """Remove some cancels and answers older than `ttl_s`, and old traces of removed jobs."""
    now = desk.now_ms()
    removed = 0
    for table, since, kept_s in (
        (cancels, cancels.c.created, ttl_s),
        (answers, answers.c.created, ttl_s),
        (pruned, pruned.c.removed, TRACE_S),
    ):
        key = list(table.primary_key.columns)
        past = select(*key).where(since < now - kept_s * 1000).limit(BATCH)
        rows = desk.connection.execute(past.with_for_update(skip_locked=True)).all()
        if rows:
            named = tuple_(*key).in_([tuple(row) for row in rows])
            desk.connection.execute(delete(table).where(named))
        removed += len(rows)
    return removed


def _batch(which: ColumnElement[bool], desk: Desk) -> list[tuple[str, int]]:
    """Return ids of the oldest, with the bytes of their pictures."""
    found = (
        select(jobs.c.id, jobs.c.image_bytes)
        .where(which)
        .order_by(jobs.c.updated)
        .limit(BATCH)
        # What another consumer is pruning is passed over: each would wait for the other's rows.
        .with_for_update(skip_locked=True)
    )
    batch, size = [], 0
    for row in desk.connection.execute(found).all():
        batch.append((row.id, row.image_bytes))
        size += row.image_bytes
        if size > BATCH_BYTES:
            break
    return batch


def _remove(batch: list[tuple[str, int]], desk: Desk) -> int:
    ids = [job_id for job_id, _ in batch]
    if ids:
        _leave_traces(ids, desk)
        forget(ids, desk.connection)
    return len(ids)


def _leave_traces(ids: list[str], desk: Desk) -> None:
    connection = desk.connection
    # An id may have been used again since it was removed the last time.
    connection.execute(delete(pruned).where(pruned.c.job_id.in_(ids)))
    now = literal(desk.now_ms(), BigInteger)
    columns = (jobs.c.id, jobs.c.state, jobs.c.user_id, jobs.c.created, jobs.c.updated, now)
    left = select(*columns).where(jobs.c.id.in_(ids), _ENDED)
    names = ["job_id", "state", "user_id", "created", "ended", "removed"]
    connection.execute(insert(pruned).from_select(names, left))
