"""The life of a job in the store: written down before it is published, followed, listed, removed.

Each of these promises is kept on a file and, in tests/full, on a PostgreSQL.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, inspect

from consumer.job import Abandoned, Cancelled, Expired, Failed, GivenBack, State
from consumer.store import (
    CANCELLED_FAULT,
    LEASE_S,
    Conflict,
    Finished,
    Known,
    Started,
    Store,
    Wanted,
)
from consumer.store.database import kind_of
from tests import test_store as promises
from tests.storing import DIED, INVALID, LATE, NOW, Clock, job, picture
from tests.test_store import begin, done

url, open_store, store, other = (
    promises.url,
    promises.open_store,
    promises.store,
    promises.other,
)

SHA = "a" * 64
PATIENCE_S = 600


class Real(Clock):
    """The test's own clock, which stands still between two words of the test."""

    def __init__(self):
        super().__init__()
        self._start_ms = int(NOW.timestamp() * 1000)

    def __call__(self, _connection):
        return self._start_ms + self._ahead_ms

    @property
    def now(self):
        return self._start_ms + self._ahead_ms


@pytest.fixture
def clock():
    """The clock of every store of the test."""
    return Real()


def asked(clock, job_id="job-1", **facts):
    """A job that is published now, by somebody with patience."""
    published = NOW + timedelta(milliseconds=clock._ahead_ms)
    return replace(
        job(job_id, **facts),
        published=published,
        deadline=published + timedelta(seconds=PATIENCE_S),
    )


async def waiting(store, clock, *ids, **facts):
    """Have jobs wait, a second after each other."""
    for job_id in ids:
        assert await store.enqueue(asked(clock, job_id, **facts)) is None
        clock.passes(1)


async def ids(store, **wanted):
    return [record.id for record in await store.recent(Wanted(**{"limit": 50, **wanted}))]


# ---------------------------------------------------------------- enqueue


async def test_a_job_that_waits_is_known(store, clock):
    """Written down before it is published, a job is queued, with all that was asked for."""
    one = asked(clock, user_id="me")
    assert await store.enqueue(one) is None
    record = await store.find("job-1")
    assert (record.status, record.attempts, record.owner) == ("queued", 0, "")
    assert (record.drawing, record.user_id) == (one.drawing, "me")
    assert (record.created, record.deadline) == (clock.now, clock.now + PATIENCE_S * 1000)
    assert record.started is record.ended is record.error is record.facts is None


async def test_a_job_that_waits_is_begun(store, other, clock):
    """Who takes it starts it for the first time, and it keeps its place in the list."""
    await waiting(store, clock, "job-1")
    assert await begin(other) == Started(attempt=1, deaths=0)
    record = await store.find("job-1")
    assert (record.status, record.started - record.created) == ("running", 1000)


async def test_who_asks_twice_waits_once(store, other, clock):
    """The second is told that it waits already; of two deadlines the later holds."""
    await waiting(store, clock, "job-1")
    assert await other.enqueue(asked(clock)) == Known(State.NEW)
    record = await store.find("job-1")
    assert record.deadline == clock.now + PATIENCE_S * 1000
    impatient = replace(asked(clock), deadline=NOW)
    assert await other.enqueue(impatient) == Known(State.NEW)
    assert (await store.find("job-1")).deadline == record.deadline


async def test_another_body_is_a_conflict(store, clock):
    """An id that waits, runs or ended is nobody else's."""
    await waiting(store, clock, "job-1")
    assert await store.enqueue(asked(clock, body="b")) == Conflict()
    await begin(store)
    assert await store.enqueue(asked(clock, body="b")) == Conflict()
    await store.finish("job-1", picture())
    assert await store.enqueue(asked(clock, body="b")) == Conflict()


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (picture(), State.SUCCEEDED),
        (Cancelled(CANCELLED_FAULT), State.CANCELLED),
        (Failed(INVALID), State.FAILED),
    ],
    ids=["succeeded", "cancelled", "failed for good"],
)
async def test_an_end_that_stays_is_told(store, clock, outcome, state):
    """What would be answered the same does not wait again."""
    await done(store, outcome)
    before = await store.find("job-1")
    assert await store.enqueue(asked(clock)) == Known(state)
    assert await store.find("job-1") == before


@pytest.mark.parametrize("outcome", [Failed(DIED), Expired(LATE), Abandoned()], ids=repr)
async def test_an_end_that_may_pass_waits_again(store, other, clock, outcome):
    """Asked for again it is queued as if new, now, and keeps its count of starts."""
    await waiting(store, clock, "job-1")
    await done(store, outcome)
    clock.passes(60)
    assert await other.enqueue(asked(clock)) is None
    record = await store.find("job-1")
    assert (record.status, record.error, record.attempts) == ("queued", None, 1)
    assert (record.created, record.deadline) == (clock.now, clock.now + PATIENCE_S * 1000)
    assert record.started is record.ended is None
    assert await begin(store) == Started(attempt=2, deaths=0)


async def test_two_who_ask_at_once_wait_once(store, other, clock):
    """One of them wrote it down, the other is told that it waits."""
    answers = await asyncio.gather(store.enqueue(asked(clock)), other.enqueue(asked(clock)))
    assert None in answers
    assert Known(State.NEW) in answers


# ---------------------------------------------------------------- withdraw


async def test_what_was_not_published_is_forgotten(store, clock):
    """A refused job is nowhere: its id may be used for something else."""
    await waiting(store, clock, "job-1")
    await store.withdraw("job-1")
    assert await store.find("job-1") is None
    assert await ids(store) == []
    assert await store.enqueue(asked(clock, body="b")) is None


async def test_what_somebody_took_is_not_withdrawn(store, other, clock):
    """A job that a consumer has, or had, or that another wrote down, stays."""
    await waiting(store, clock, "job-1", "job-2")
    await other.withdraw("job-2")
    await begin(other)
    await store.withdraw("job-1")
    assert await ids(store) == ["job-2", "job-1"]
    await other.finish("job-1", GivenBack())
    await store.withdraw("job-1")
    assert (await store.find("job-1")).status == "queued"
    await store.withdraw("never-seen")


# ---------------------------------------------------------------- ends without a start


@pytest.mark.parametrize(
    ("outcome", "status"), [(Expired(LATE), "expired"), (Failed(INVALID), "failed")]
)
async def test_what_waits_ends_without_a_start(store, clock, outcome, status):
    """What the broker dead-lettered, or a consumer refused, has its end and its reason."""
    await waiting(store, clock, "job-1")
    assert await store.close_waiting("job-1", SHA, outcome)
    record = await store.find("job-1")
    assert (record.status, record.error) == (status, outcome.fault.info())
    assert (record.ended, record.attempts) == (clock.now, 0)
    assert not await store.close_waiting("job-1", SHA, outcome)


async def test_only_this_very_job_is_closed(store, clock):
    """Another body, a job that runs or one that nobody knows is left alone."""
    assert not await store.close_waiting("job-1", SHA, Expired(LATE))
    await waiting(store, clock, "job-1")
    assert not await store.close_waiting("job-1", "b" * 64, Expired(LATE))
    await begin(store)
    assert not await store.close_waiting("job-1", SHA, Expired(LATE))
    assert (await store.find("job-1")).status == "running"


@pytest.mark.parametrize(
    ("owner", "who", "any_job", "ends"),
    [
        ("me", "me", False, True),
        ("me", "other", False, False),
        ("me", "other", True, True),
        ("me", None, False, False),
        (None, "other", False, True),
    ],
)
async def test_a_cancel_ends_what_waits(store, clock, owner, who, any_job, ends):
    """Who may call a job off ends it at once while it waits; who may not changes nothing."""
    await waiting(store, clock, "job-1", user_id=owner)
    assert await store.remember_cancel("job-1", who, any_job=any_job) is ends
    assert (await store.find("job-1")).status == ("cancelled" if ends else "queued")
    begun = await begin(store, user_id=owner)
    called_off = Finished(Cancelled(CANCELLED_FAULT), 0.0)
    assert begun == (called_off if ends else Started(attempt=1, deaths=0))


async def test_a_job_that_runs_is_not_ended_by_the_word_alone(store, clock):
    """Its consumer stops it; the cancel is remembered in case that one dies."""
    await waiting(store, clock, "job-1")
    await begin(store)
    assert not await store.remember_cancel("job-1", "x", any_job=True)
    assert (await store.find("job-1")).status == "running"


# ---------------------------------------------------------------- what is shown


async def test_a_lease_that_ended_is_a_job_that_waits(store, clock):
    """What a killed service left is in the queue again, until nobody wants it any more."""
    await waiting(store, clock, "job-1")
    await store.begin(asked(clock), redelivered=False)
    clock.passes(LEASE_S + 1)
    record = await store.find("job-1")
    assert (record.status, record.ended) == ("queued", None)
    assert [place.job_id for place in (await store.line()).waiting] == ["job-1"]
    assert await ids(store, status="queued") == ["job-1"]
    assert await ids(store, status="running") == []
    clock.passes(PATIENCE_S + 6)
    assert (await store.find("job-1")).status == "expired"


async def test_a_deadline_that_passed_is_an_end(store, clock):
    """A job that waits past its deadline has expired then, though nobody wrote it down."""
    await waiting(store, clock, "job-1")
    deadline = (await store.find("job-1")).deadline
    clock.passes(PATIENCE_S)
    assert (await store.find("job-1")).status == "queued"
    clock.passes(6)
    record = await store.find("job-1")
    assert (record.status, record.ended) == ("expired", deadline)
    assert await ids(store, status="expired") == ["job-1"]
    assert await ids(store, status="queued") == []
    assert (await store.line()).waiting == ()


async def test_the_line_is_in_order(store, clock):
    """Who asked first is first; what runs tells since when."""
    await waiting(store, clock, "a", "b", "c")
    await store.begin(asked(clock, "a"), redelivered=False)
    clock.passes(2)
    line = await store.line()
    assert [place.job_id for place in line.waiting] == ["b", "c"]
    assert [(place.job_id, line.now - place.since) for place in line.running] == [("a", 2000)]
    assert line.waiting[0].drawing == asked(clock).drawing


async def test_every_state_has_its_list(store, clock):
    """A job is in the list of the state that its own record tells, and in no other."""
    outcomes = {
        "succeeded": picture(),
        "failed": Failed(DIED),
        "cancelled": Cancelled(CANCELLED_FAULT),
        "abandoned": Abandoned(),
        "expired": Expired(LATE),
    }
    await waiting(store, clock, *outcomes, "running", "queued")
    for job_id, outcome in outcomes.items():
        await store.begin(asked(clock, job_id), redelivered=False)
        assert await store.finish(job_id, outcome)
    await store.begin(asked(clock, "running"), redelivered=False)
    for state in ("succeeded", "failed", "expired", "running", "queued"):
        assert await ids(store, status=state) == [state]
    assert await ids(store, status="cancelled") == ["abandoned", "cancelled"]
    assert (await store.find("abandoned")).abandoned
    for record in await store.recent(Wanted(50)):
        assert record.status == {"abandoned": "cancelled"}.get(record.id, record.id)


async def test_a_list_goes_on_where_it_ended(store, clock):
    """Pages of any size continue each other, among jobs of one moment too."""
    for number in range(7):
        assert await store.enqueue(asked(clock, f"job-{number}")) is None
        if number % 3 == 2:
            clock.passes(1)
    everything = await ids(store)
    assert everything == ["job-6", "job-5", "job-4", "job-3", "job-2", "job-1", "job-0"]
    for limit in (1, 2, 3):
        seen, before = [], None
        while page := await store.recent(Wanted(limit, before)):
            seen += [record.id for record in page]
            before = (page[-1].created, page[-1].id)
        assert seen == everything


async def test_a_user_sees_his_own(store, clock):
    """The list of a user has his jobs and those of nobody in particular."""
    await waiting(store, clock, "mine", user_id="me")
    await waiting(store, clock, "theirs", user_id="other")
    await waiting(store, clock, "nobodys")
    assert await ids(store) == ["nobodys", "theirs", "mine"]
    assert await ids(store, user_id="me") == ["nobodys", "mine"]
    assert await ids(store, user_id="") == ["nobodys"]


async def test_a_picture_is_handed_out(store, clock):
    """The bytes of a picture are there as long as it is kept."""
    await done(store, picture(image=bytes(range(256))))
    assert await store.picture("job-1") == bytes(range(256))
    assert (await store.find("job-1")).facts == picture().facts
    assert await store.picture("never-seen") is None


# ---------------------------------------------------------------- what is left


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (picture(), "succeeded"),
        (Failed(DIED), "failed"),
        (Cancelled(CANCELLED_FAULT), "cancelled"),
        (Abandoned(), "cancelled"),
        (Expired(LATE), "expired"),
    ],
    ids=repr,
)
async def test_a_removed_job_leaves_a_trace(store, clock, outcome, status):
    """It is known how it ended and whose it was, and nothing of what it was about."""
    await waiting(store, clock, "job-1", user_id="me")
    await done(store, outcome, user_id="me")
    before = await store.find("job-1")
    clock.passes(3600)
    assert await store.prune(ttl_s=60, max_bytes=2**30) == 1
    record = await store.find("job-1")
    assert (record.status, record.pruned, record.user_id) == (status, True, "me")
    assert (record.created, record.ended) == (before.created, before.ended)
    assert record.abandoned == before.abandoned
    assert record.drawing is record.facts is record.error is None
    assert await store.picture("job-1") is None
    assert await ids(store) == []


async def test_a_removed_job_may_be_asked_for_again(store, clock):
    """Its id is free; the new job is what is told of it, and then the new end."""
    await waiting(store, clock, "job-1")
    await done(store, Failed(INVALID))
    clock.passes(3600)
    await store.prune(ttl_s=60, max_bytes=2**30)
    assert await store.enqueue(asked(clock, body="b")) is None
    assert (await store.find("job-1")).status == "queued"
    await store.begin(asked(clock, body="b"), redelivered=False)
    await store.finish("job-1", picture())
    clock.passes(3600)
    await store.prune(ttl_s=60, max_bytes=2**30)
    assert (await store.find("job-1")).status == "succeeded"


async def test_a_trace_goes_after_a_week(store, clock):
    """In the end nobody knows of it."""
    await waiting(store, clock, "job-1")
    await done(store, picture())
    clock.passes(3600)
    await store.prune(ttl_s=60, max_bytes=2**30)
    clock.passes(6 * 86_400)
    await store.prune(ttl_s=60, max_bytes=2**30)
    assert (await store.find("job-1")).pruned
    clock.passes(86_401)
    await store.prune(ttl_s=60, max_bytes=2**30)
    assert await store.find("job-1") is None


async def test_what_waits_is_not_pruned(store, clock):
    """However small the room and short the time, a job that waits or runs is kept."""
    await waiting(store, clock, "queued", "running")
    await store.begin(asked(clock, "running"), redelivered=False)
    clock.passes(3600)
    assert await store.prune(ttl_s=60, max_bytes=0) == 0
    assert len(await ids(store)) == 2


# ---------------------------------------------------------------- an earlier version's database

_EARLIER = MetaData()
_JOBS = Table(
    "jobs",
    _EARLIER,
    Column("id", String, primary_key=True),
    Column("body_sha256", String, nullable=False),
    Column("user_id", String),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("owner", String, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("facts", String),
    Column("error", String),
    Column("image_bytes", BigInteger, nullable=False),
)


@pytest.fixture
def earlier(url, clock):
    """A database as the version before made it, with a job in each state."""
    kind = kind_of(url, "earlier")
    kind.prepare()
    rows = [
        {
            "id": state,
            "body_sha256": SHA,
            "state": state,
            "attempts": 1,
            "deaths": 0,
            "owner": "earlier/boot",
            "lease_until": 0,
            "updated": clock.now + number,
            "image_bytes": 0,
        }
        for number, state in enumerate(State)
    ]
    with kind.engine.begin() as connection:
        _EARLIER.create_all(connection)
        connection.execute(_JOBS.insert(), rows)
    kind.engine.dispose()
    kind.release()
    return url


async def test_an_earlier_database_is_brought_up(earlier, clock):
    """It gets its columns and indexes, once; its jobs are listed, found and run."""
    for _ in range(2):
        store = Store(earlier, "now", clock=clock)
        await store.open()
        columns, indexes = await store._database.transaction(_shape)
        await store.close()
    assert {"created", "started", "deadline", "drawing"} <= columns
    assert {"jobs_by_age", "jobs_by_creation", "jobs_by_state"} <= indexes
    store = Store(earlier, "now", clock=clock)
    listed = await ids(store)
    assert listed == list(State)[::-1]
    for job_id in listed:
        record = await store.find(job_id)
        assert (record.drawing, record.started, record.deadline) == (None, None, None)
        assert record.created == clock.now + list(State).index(job_id)
    assert {place.job_id for place in (await store.line()).waiting} == {"new", "running"}
    assert await store.begin(asked(clock, "new"), redelivered=True) == Started(2, 0)
    assert (await store.find("new")).drawing == asked(clock).drawing
    await store.close()


def _shape(connection):
    there = inspect(connection)
    return (
        {column["name"] for column in there.get_columns("jobs")},
        {index["name"] for index in there.get_indexes("jobs")},
    )
