"""The store under any order of events: a machine that knows what several owners may do."""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import event

from consumer.job import (
    TRANSITIONS,
    Abandoned,
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    IdSource,
    Poison,
    Refused,
    State,
    Succeeded,
)
from consumer.store import (
    CANCELLED_FAULT,
    LEASE_S,
    Conflict,
    Elsewhere,
    Finished,
    Started,
    Store,
)
from tests.storing import DIED, INVALID, LATE, POISON, job, picture

JOBS = {
    "anna": job("anna", user_id="anna"),
    "nobody": job("nobody"),
    "derived": job("derived", source=IdSource.DERIVED, user_id="ben"),
}
LEASE_MS = int(LEASE_S * 1000)
DAY_MS = 86_400_000
OWNERS = st.integers(0, 2)
IDS = st.sampled_from(sorted(JOBS))
USERS = st.sampled_from(["anna", "ben", None])
OUTCOMES = st.sampled_from(
    [
        Refused(INVALID),
        Failed(INVALID),
        Failed(DIED),
        Poison(POISON),
        Expired(LATE),
        Cancelled(CANCELLED_FAULT),
        Abandoned(),
        GivenBack(),
    ]
) | st.binary(min_size=1, max_size=99)


@dataclass
class Known:
    """What must be remembered of one job."""

    state: State | None = None
    deaths: int = 0
    attempts: int = 0
    end: object = None
    """An end that stays."""
    owner: str = ""
    until: int = 0
    updated: int = 0
    cancels: dict = field(default_factory=dict)
    """By user: whether it speaks for any job, and when it came."""

    def called_off(self, user):
        return any(
            any_job or user in {None, cancelled_by}
            for cancelled_by, (any_job, _) in self.cancels.items()
        )


class Stores(RuleBasedStateMachine):
    """Three owners on one file, each replaced by a new one when it dies."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._file = f"{self._folder.name}/jobs.sqlite"
        self._loop = asyncio.Runner()
        self._now = 1_000_000_000_000
        self._born = 0
        self._stores = [self._new() for _ in range(3)]
        self._known = {job_id: Known() for job_id in JOBS}

    def teardown(self):
        for store in self._stores:
            self._loop.run(store.close())
        self._loop.close()
        self._folder.cleanup()

    def _new(self):
        self._born += 1
        store = Store(
            f"sqlite:///{self._file}", f"owner-{self._born}", clock=lambda _: self._now
        )
        # No power cut is among the events, so no disk need be waited for.
        event.listen(store._kind.engine, "connect", _do_not_sync)
        self._loop.run(store.open())
        return store

    # ------------------------------------------------------------ what may happen

    @rule(owner=OWNERS, job_id=IDS, redelivered=st.booleans())
    def begin(self, owner, job_id, redelivered):
        store, known = self._stores[owner], self._known[job_id]
        running = known.state is State.RUNNING
        if JOBS[job_id].id_source is IdSource.DERIVED and not redelivered and not running:
            # Another request with the same derived id: the row's life starts anew.
            known = self._known[job_id] = Known(cancels=known.cancels)
        begun = self._loop.run(store.begin(JOBS[job_id], redelivered=redelivered))
        elsewhere = running and known.owner != store._owner and self._live(known)
        match begun:
            case Started(attempt=attempt, deaths=deaths):
                assert not elsewhere
                assert known.end is None
                assert not known.called_off(JOBS[job_id].user_id)
                assert (attempt, deaths) == (known.attempts + 1, known.deaths)
                known.attempts, known.updated = attempt, self._now
                known.owner, known.until = store._owner, self._now + LEASE_MS
            case Elsewhere(owner=name, left_s=left_s):
                assert elsewhere
                assert (name, left_s) == (known.owner, (known.until - self._now) / 1000)
            case Finished(outcome=outcome):
                assert not elsewhere
                self._check_answer(outcome, known, JOBS[job_id].user_id)
            case Conflict():
                pytest.fail("every delivery has the same body")

    @rule(owner=OWNERS, job_id=IDS, outcome=OUTCOMES)
    def finish(self, owner, job_id, outcome):
        store, known = self._stores[owner], self._known[job_id]
        if isinstance(outcome, bytes):
            outcome = picture(job_id, outcome)
        written = self._loop.run(store.finish(job_id, outcome))
        ours = known.owner == store._owner or not self._live(known)
        assert written == (known.state is State.RUNNING and ours)
        if written:
            known.updated = self._now
        fault = getattr(outcome, "fault", None)
        if written and (isinstance(outcome, Succeeded) or (fault and not fault.retryable)):
            known.end = outcome
            known.cancels.clear()

    @rule(owner=OWNERS, job_id=IDS)
    def count_death(self, owner, job_id):
        known = self._known[job_id]
        if known.state is not None:
            known.deaths += 1
            assert self._loop.run(self._stores[owner].count_death(job_id)) == known.deaths

    @rule(owner=OWNERS)
    def renew(self, owner):
        store = self._stores[owner]
        self._loop.run(store.renew())
        for known in self._known.values():
            if known.owner == store._owner:
                known.until = self._now + LEASE_MS

    @rule(seconds=st.sampled_from([1, 5, 11.999, 12, 3000, 86400]))
    def time_passes(self, seconds):
        self._now += int(seconds * 1000)

    @rule(owner=OWNERS)
    def die(self, owner):
        self._loop.run(self._stores[owner].close())
        self._stores[owner] = self._new()

    @rule(owner=OWNERS, job_id=IDS, user=USERS, any_job=st.booleans())
    def cancel(self, owner, job_id, user, any_job):
        known = self._known[job_id]
        step = self._stores[owner].remember_cancel(job_id, user, any_job=any_job)
        ended = self._loop.run(step)
        if known.state in {None, State.NEW, State.RUNNING}:
            known.updated = self._now if ended else known.updated
            before, _ = known.cancels.get(user, (False, 0))
            known.cancels[user] = (before or any_job, self._now)

    @rule(owner=OWNERS, ttl_s=st.sampled_from([60, 3600]), max_bytes=st.sampled_from([0, 99]))
    def prune(self, owner, ttl_s, max_bytes):
        removed = self._loop.run(self._stores[owner].prune(ttl_s, max_bytes))
        rows, oldest = self._rows(), self._now - ttl_s * 1000
        assert sum(row["image_bytes"] for row in rows.values()) <= max_bytes
        for job_id, known in self._known.items():
            known.cancels = {
                user: cancel for user, cancel in known.cancels.items() if cancel[1] >= oldest
            }
            if known.state is not None and job_id not in rows:
                removed -= 1
                self._check_forgotten(known, oldest)
                self._known[job_id] = Known(cancels=known.cancels)
            elif known.state not in {None, State.NEW, State.RUNNING}:
                assert known.updated >= oldest
        assert removed == 0

    # ------------------------------------------------------------ what always holds

    @invariant()
    def every_move_is_in_the_table(self):
        """And deaths never decrease while a row lives."""
        rows = self._rows()
        for job_id, known in self._known.items():
            row = rows.get(job_id)
            if row is None:
                assert known.state is None
                continue
            state = State(row["state"])
            before = known.state or State.NEW
            assert state == before or state in TRANSITIONS[before]
            assert row["deaths"] == known.deaths
            known.state = state

    def _check_answer(self, outcome, known, user):
        """A stored end is replayed to the byte; else somebody called the job off."""
        if isinstance(known.end, Succeeded):
            assert outcome.image == known.end.image
            assert outcome.facts == known.end.facts.model_copy(update={"replayed": True})
        elif known.end is not None and not isinstance(known.end, Cancelled):
            assert outcome == Failed(known.end.fault)
        else:
            assert outcome == Cancelled(CANCELLED_FAULT)
            assert known.end is not None or known.called_off(user)
        if known.end is None and known.state in {None, State.NEW, State.RUNNING}:
            known.end, known.updated = outcome, self._now

    def _check_forgotten(self, known, oldest):
        """Only what ended goes, old or with a picture; and what nobody came back for in a day."""
        if known.state in {State.NEW, State.RUNNING}:
            assert max(known.updated, known.until) < self._now - DAY_MS
        else:
            assert known.updated < oldest or known.state is State.SUCCEEDED

    def _live(self, known):
        owners = {store._owner for store in self._stores}
        return known.until > self._now and known.owner in owners

    def _rows(self):
        with closing(sqlite3.connect(self._file)) as connection:
            connection.row_factory = sqlite3.Row
            return {row["id"]: row for row in connection.execute("SELECT * FROM jobs")}


def _do_not_sync(raw, _):
    raw.execute("PRAGMA synchronous=OFF")


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=20, stateful_step_count=40)
