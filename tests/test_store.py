"""The store: what a job may be answered from later, over kills and restarts."""

from datetime import UTC, datetime

import pytest

from consumer import store as store_module
from consumer.errors import Fault
from consumer.job import (
    Abandoned,
    Cancelled,
    Drawing,
    Expired,
    Failed,
    GivenBack,
    IdSource,
    Job,
    Poison,
    Refused,
    Succeeded,
)
from consumer.store import CANCELLED_FAULT, Conflict, Finished, Started, Store
from schemas.errors import ErrorCode, Problem
from schemas.reply import ResultFacts, Timings

NOW = datetime(2026, 11, 22, tzinfo=UTC)
POISON = Fault(ErrorCode.POISON, "Three deaths.")
INVALID = Fault(
    ErrorCode.INVALID_REQUEST,
    "prompt: too long",
    (Problem(field="prompt", problem="It is too long.", suggestion="shorter"),),
)
DIED = Fault(ErrorCode.GPU_DIED, "It died.")
LATE = Fault(ErrorCode.DEADLINE_EXCEEDED, "Too late.")


def job(job_id="job-1", body="a", source=IdSource.GIVEN):
    drawing = Drawing("x", 256, 256, 1, 8, 9, 0.0, "png")
    return Job(job_id, source, body * 64, drawing, NOW, NOW, None)


def picture(job_id="job-1", image=b"picture"):
    facts = ResultFacts(
        job_id=job_id,
        width=256,
        height=256,
        seed=2**53 - 1,
        prompt="日没 🌄",
        generation_time=3.45,
        format="png",
        sha256="e3b0",
        model="builtin",
        forwards=8,
        attempt=1,
        replayed=False,
        worker="tester",
        timings=Timings(queued=0.8, text_encode=0.1, denoise=3.1, vae_decode=0.2, encode=0.02),
    )
    return Succeeded(facts, image)


@pytest.fixture
async def open_store(tmp_path):
    """Open stores on one file, as a service and its successors do."""
    opened = []

    async def open_one():
        store = Store(f"sqlite:///{tmp_path / 'new folder' / 'jobs.sqlite'}")
        await store.open()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store):
    return await open_store()


@pytest.fixture
def clock(monkeypatch):
    """The store's clock, in the test's hand."""
    now = [1_000_000]
    monkeypatch.setattr(store_module, "_now", lambda: now[0])
    return now


async def done(store, outcome, **facts):
    begun = await store.begin(job(**facts), redelivered=False)
    assert isinstance(begun, Started)
    await store.finish(job(**facts).id, outcome)


# ---------------------------------------------------------------- begin


async def test_a_new_job_is_ours_to_run(store):
    """The first start of a job is attempt 1, with no deaths."""
    assert await store.begin(job(), redelivered=False) == Started(attempt=1, deaths=0)


async def test_the_attempt_is_counted_before_the_start(store):
    """A start that nobody finished counts: the next one knows of it."""
    await store.begin(job(), redelivered=False)
    assert await store.begin(job(), redelivered=True) == Started(attempt=2, deaths=0)


async def test_jobs_do_not_mix(store):
    """Another id is another job."""
    await done(store, picture())
    assert await store.begin(job("job-2"), redelivered=False) == Started(attempt=1, deaths=0)


# ---------------------------------------------------------------- replay


async def test_a_success_is_replayed_and_marked(store):
    """A job that succeeded is answered with the same facts and bytes, marked as replayed."""
    await done(store, picture(image=bytes(range(256))))
    begun = await store.begin(job(), redelivered=False)
    facts = picture().facts.model_copy(update={"replayed": True})
    assert begun == Finished(Succeeded(facts, bytes(range(256))))


@pytest.mark.parametrize(
    "outcome", [Refused(INVALID), Failed(INVALID), Poison(POISON)], ids=repr
)
async def test_a_failure_for_good_is_replayed(store, outcome):
    """What cannot succeed is not tried again; code, sentence and details are the same."""
    await done(store, outcome)
    assert await store.begin(job(), redelivered=False) == Finished(Failed(outcome.fault))


@pytest.mark.parametrize("outcome", [Failed(DIED), Expired(LATE), GivenBack()], ids=repr)
async def test_what_may_succeed_later_is_started_again(store, outcome):
    """A retryable failure, a passed deadline and a stop of ours leave the job to be run."""
    await done(store, outcome)
    assert await store.begin(job(), redelivered=False) == Started(attempt=2, deaths=0)


@pytest.mark.parametrize("outcome", [Cancelled(CANCELLED_FAULT), Abandoned()], ids=repr)
async def test_what_nobody_wants_is_not_started_again(store, outcome):
    """A cancelled job, and one that its caller left, stays so when it is delivered again."""
    await done(store, outcome)
    assert await store.begin(job(), redelivered=True) == Finished(Cancelled(CANCELLED_FAULT))


async def test_a_second_try_may_succeed(store):
    """A success after a retryable failure is what is replayed from then on."""
    await done(store, Failed(DIED))
    await done(store, picture())
    begun = await store.begin(job(), redelivered=False)
    assert isinstance(begun.outcome, Succeeded)


# ---------------------------------------------------------------- whose id it is


@pytest.mark.parametrize("outcome", [picture(), Failed(DIED), GivenBack()], ids=repr)
async def test_an_id_names_one_request_for_ever(store, outcome):
    """The same id with another body is a conflict, whatever became of the first."""
    await done(store, outcome)
    assert await store.begin(job(body="b"), redelivered=False) == Conflict()


async def test_a_conflict_changes_nothing(store):
    """The first request is still answered from its result."""
    await done(store, picture())
    await store.begin(job(body="b"), redelivered=False)
    assert isinstance(await store.begin(job(), redelivered=False), Finished)


async def test_a_derived_id_is_looked_up_on_a_redelivery_only(store):
    """Two equal requests without an id are two; a redelivery of one is that one."""
    await done(store, picture(), source=IdSource.DERIVED)
    derived = job(source=IdSource.DERIVED)
    assert isinstance(await store.begin(derived, redelivered=True), Finished)
    assert await store.begin(derived, redelivered=False) == Started(attempt=1, deaths=0)


# ---------------------------------------------------------------- cancel


async def test_a_cancel_that_comes_first_is_remembered(store):
    """A job called off before it was seen dies on arrival, whatever its body."""
    await store.remember_cancel("job-1")
    await store.remember_cancel("job-1")
    begun = await store.begin(job(), redelivered=False)
    assert begun == Finished(Cancelled(CANCELLED_FAULT))


async def test_a_job_that_waits_again_can_be_called_off(store):
    """A job that a stop gave back to the queue dies on arrival once it is cancelled."""
    await done(store, GivenBack())
    await store.remember_cancel("job-1")
    begun = await store.begin(job(), redelivered=True)
    assert begun == Finished(Cancelled(CANCELLED_FAULT))


async def test_a_cancel_does_not_undo_what_is_done(store):
    """A finished job keeps its answer."""
    await done(store, picture())
    await store.remember_cancel("job-1")
    begun = await store.begin(job(), redelivered=False)
    assert isinstance(begun.outcome, Succeeded)


# ---------------------------------------------------------------- deaths


async def test_deaths_are_counted_over_attempts(store):
    """Each attempt is told how often the job brought the GPU process down before."""
    await store.begin(job(), redelivered=False)
    assert [await store.count_death("job-1") for _ in range(2)] == [1, 2]
    await store.finish("job-1", Failed(DIED))
    assert await store.begin(job(), redelivered=True) == Started(attempt=2, deaths=2)


async def test_a_stop_of_ours_is_no_death(store):
    """A job given back is no poison, however often."""
    for attempt in range(1, 6):
        assert await store.begin(job(), redelivered=True) == Started(attempt, deaths=0)
        await store.finish("job-1", GivenBack())


# ---------------------------------------------------------------- finish


async def test_the_first_end_counts(store):
    """Two consumers may draw one job after a lost connection: the answer that is stored stays."""
    await done(store, picture())
    await store.finish("job-1", Failed(DIED))
    begun = await store.begin(job(), redelivered=False)
    assert isinstance(begun.outcome, Succeeded)


# ---------------------------------------------------------------- after a crash


async def test_results_survive_a_crash(open_store):
    """A service that opens the file of one that was killed answers from its results."""
    await done(await open_store(), picture())
    begun = await (await open_store()).begin(job(), redelivered=True)
    assert begun.outcome.image == b"picture"


async def test_a_job_that_a_crash_interrupted_is_taken_over(open_store):
    """What was running when the service was killed is started again, with its deaths."""
    first = await open_store()
    await first.begin(job(), redelivered=False)
    await first.count_death("job-1")
    second = await open_store()
    assert await second.begin(job(), redelivered=True) == Started(attempt=2, deaths=1)


async def test_a_cancel_survives_a_crash(open_store):
    """What was called off stays so after a restart."""
    await (await open_store()).remember_cancel("job-1")
    begun = await (await open_store()).begin(job(), redelivered=False)
    assert isinstance(begun, Finished)


async def test_two_services_may_share_the_file(open_store):
    """Work of one is seen by the other at once; neither locks the other out."""
    one, other = await open_store(), await open_store()
    for number in range(10):
        await done(one, picture(f"one-{number}"), job_id=f"one-{number}")
        await done(other, picture(f"other-{number}"), job_id=f"other-{number}")
    begun = await other.begin(job("one-9"), redelivered=False)
    assert isinstance(begun, Finished)


async def test_close_without_open_is_harmless(tmp_path):
    """A service that never came so far can be shut like any other."""
    await Store(f"sqlite:///{tmp_path / 'jobs.sqlite'}").close()


# ---------------------------------------------------------------- prune


async def test_results_are_kept_for_their_time(store, clock):
    """After `ttl_s` seconds, and not before, a result is gone and the job is new again."""
    await done(store, picture())
    await store.remember_cancel("job-2")
    clock[0] += 60
    assert await store.prune(ttl_s=60, max_bytes=1000) == 0
    clock[0] += 1
    assert await store.prune(ttl_s=60, max_bytes=1000) == 2
    assert await store.begin(job(), redelivered=False) == Started(attempt=1, deaths=0)


async def test_a_running_job_is_never_pruned(store, clock):
    """However long a job takes, its deaths are remembered until it ends."""
    await store.begin(job(), redelivered=False)
    await store.count_death("job-1")
    clock[0] += 10_000
    assert await store.prune(ttl_s=60, max_bytes=0) == 0
    assert await store.begin(job(), redelivered=True) == Started(attempt=2, deaths=1)


async def test_the_oldest_results_make_room(store, clock):
    """Beyond `max_bytes` the oldest go first, and no more than needed."""
    for number in range(4):
        clock[0] += 1
        await done(store, picture(image=b"x" * 100), job_id=f"job-{number}")
    assert await store.prune(ttl_s=60, max_bytes=250) == 2
    kept = [
        isinstance(await store.begin(job(f"job-{number}"), redelivered=False), Finished)
        for number in range(4)
    ]
    assert kept == [False, False, True, True]


async def test_errors_are_not_pruned_for_room(store):
    """Only pictures take room; a refusal is kept for its time."""
    await done(store, Failed(INVALID))
    assert await store.prune(ttl_s=60, max_bytes=0) == 0
