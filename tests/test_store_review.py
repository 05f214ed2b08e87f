"""What a review of the store proved: requests that cross each other, and jobs whose service died.

Each of these promises is kept on a file and on a PostgreSQL.
"""

import asyncio
import functools
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from consumer.errors import Fault
from consumer.job import Cancelled, Expired, Failed, State
from consumer.store import LEASE_S, Conflict, Finished, Known, Started, Store, lookup, records
from schemas.errors import ErrorCode
from tests.postgres import Postgres
from tests.storing import DIED, LATE, NOW, Clock, job, picture

BUSY = Fault(ErrorCode.BUSY, "The queue is full.")
LONG = timedelta(days=3650)


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.end()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def stores(url, clock):
    """A consumer, and two faces of it or of others."""
    opened = [Store(url, owner, clock=clock) for owner in ("consumer", "face", "another face")]
    for store in opened:
        await store.open()
    yield opened
    for store in opened:
        await store.close()


def patient(**facts):
    """A job that somebody waits for longer than the test goes."""
    return replace(job(**facts), deadline=NOW + LONG)


async def standing(store, job_id="job-1"):
    record = await store.find(job_id)
    return None if record is None else record.status


@pytest.mark.parametrize("second", [1, 2])
async def test_what_two_asked_for_is_not_withdrawn_by_one(stores, second):
    """A request that was refused is not forgotten where another one for the same may be queued."""
    face, other = stores[1], stores[second]
    assert await face.enqueue(patient()) is None
    assert await other.enqueue(patient()) == Known(State.NEW)
    await face.withdraw("job-1", BUSY)
    assert await standing(face) == "queued"


async def test_what_one_asked_for_is_withdrawn(stores):
    """A request that was refused leaves nothing behind."""
    _, face, _ = stores
    await face.enqueue(patient())
    await face.withdraw("job-1", BUSY)
    assert await standing(face) is None


async def test_a_refused_retry_leaves_what_was_known_of_the_job(stores):
    """A job that was tried before stays known, with its deaths, when the queue refuses a retry."""
    consumer, face, _ = stores
    await consumer.begin(patient(), redelivered=False)
    await consumer.count_death("job-1")
    await consumer.finish("job-1", Failed(DIED))
    assert await face.enqueue(patient()) is None
    await face.withdraw("job-1", BUSY)
    record = await face.find("job-1")
    assert (record.status, record.error.code) == ("failed", ErrorCode.BUSY)
    assert await face.enqueue(patient()) is None
    begun = await consumer.begin(patient(), redelivered=False)
    assert begun == Started(attempt=2, deaths=1)


async def test_a_job_of_a_dead_service_may_be_sent_again(stores, clock):
    """Nobody is told that a job runs whose service died: it is published again."""
    consumer, face, _ = stores
    await consumer.begin(patient(), redelivered=False)
    assert await face.enqueue(patient()) == Known(State.RUNNING)
    clock.passes(LEASE_S + 1)
    assert await face.enqueue(patient()) == Known(State.NEW)


async def test_a_job_that_a_dead_service_let_expire_is_begun_anew(stores, clock):
    """A job that ran out with its service waits again when somebody asks for it again."""
    consumer, face, _ = stores
    await consumer.begin(job(), redelivered=False)
    clock.passes(LEASE_S + 1)
    assert await standing(face) == "expired"
    assert await face.enqueue(patient()) is None
    assert await standing(face) == "queued"
    assert isinstance(await consumer.begin(patient(), redelivered=False), Started)


async def test_a_job_that_ran_out_unseen_waits_again(stores, clock):
    """The same of one that no service ever took: it is as new."""
    _, face, other = stores
    await face.enqueue(job())
    clock.passes(lookup.OVERDUE_MS / 1000 + 1)
    assert await standing(face) == "expired"
    assert await other.enqueue(patient()) is None
    assert await standing(face) == "queued"


async def test_the_end_of_a_dead_services_job_is_written(stores, clock):
    """What the broker gave up of a job whose service died is told by its status, too."""
    consumer, face, _ = stores
    await consumer.begin(patient(), redelivered=False)
    body = patient().body_sha256
    assert not await face.close_waiting("job-1", body, Expired(LATE))
    clock.passes(LEASE_S + 1)
    assert await face.close_waiting("job-1", body, Expired(LATE))
    assert await standing(face) == "expired"


async def test_a_dead_services_job_is_called_off_at_once(stores, clock):
    """A job that waits because its service died ends with the cancel, as any that waits."""
    consumer, face, _ = stores
    await consumer.begin(patient(), redelivered=False)
    clock.passes(LEASE_S + 1)
    assert await standing(face) == "queued"
    assert await face.remember_cancel("job-1", None, any_job=True)
    assert await standing(face) == "cancelled"
    begun = await consumer.begin(patient(), redelivered=True)
    assert isinstance(begun, Finished)
    assert isinstance(begun.outcome, Cancelled)


async def test_many_who_ask_at_once_agree(stores):
    """Of many that ask for one job at once exactly one is the first; nothing breaks."""
    consumer, face, other = stores
    asked = [store.enqueue(patient()) for store in (face, other) for _ in range(20)]
    told = await asyncio.gather(*asked, consumer.begin(patient(), redelivered=False))
    assert isinstance(told.pop(), Started)
    assert told.count(None) <= 1
    assert not any(isinstance(answer, Conflict) for answer in told)
    assert await consumer.finish("job-1", picture())
    assert await face.enqueue(patient()) == Known(State.SUCCEEDED)


async def test_withdrawing_while_it_is_begun_loses_nothing(stores):
    """A job is withdrawn or begun; one that was begun keeps its row and its end."""
    consumer, face, _ = stores
    for number in range(20):
        wanted = patient(job_id=f"job-{number}")
        await face.enqueue(wanted)
        begun, _ = await asyncio.gather(
            consumer.begin(wanted, redelivered=False), face.withdraw(wanted.id, BUSY)
        )
        assert isinstance(begun, Started)
        assert await consumer.finish(wanted.id, picture(job_id=wanted.id))
        assert await standing(face, wanted.id) == "succeeded"


async def test_a_statement_that_breaks_keeps_its_values_to_itself(stores):
    """What goes wrong with a table is told without the prompt that it met."""
    _, face, _ = stores
    secret = replace(patient(), drawing=replace(patient().drawing, prompt="a secret wish"))
    values = {"state": State.NEW, "updated": 0, "attempts": 0}
    await face._step(lambda desk: desk.connection.execute(text("DROP TABLE jobs")))
    with pytest.raises(SQLAlchemyError, match="jobs") as caught:
        await face._step(functools.partial(records.write_new, secret, values, 0))
    assert "a secret wish" not in str(caught.value)


async def test_the_list_goes_on_over_equal_times_and_removals(stores):
    """No job is told twice or left out, though all came in one moment and some are removed."""
    _, face, _ = stores
    wanted = [f"job-{number}" for number in range(9)]
    for job_id in wanted:
        await face.enqueue(patient(job_id=job_id))
    seen, before = [], None
    while page := await face.recent(lookup.Wanted(2, before)):
        seen += [record.id for record in page]
        before = (page[-1].created, page[-1].id)
        await face._step(functools.partial(forget, [page[-1].id]))
    assert seen == sorted(wanted, reverse=True)


def forget(job_ids, desk):
    records.forget(job_ids, desk.connection)
