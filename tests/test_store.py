"""The store: what a job may be answered from later, on whichever database.

Each of these promises is kept on a file and, in tests/full, on a PostgreSQL.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consumer.job import (
    Abandoned,
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    IdSource,
    Poison,
    Refused,
    Succeeded,
)
from consumer.store import (
    CANCELLED_FAULT,
    LEASE_S,
    RENEW_EVERY_S,
    Conflict,
    Elsewhere,
    Finished,
    Started,
    Store,
    StoreLostError,
    notes,
    records,
)
from consumer.store.database import now_ms
from tests.storing import DIED, INVALID, LATE, POISON, Clock, job, picture

CALLED_OFF = Finished(Cancelled(CANCELLED_FAULT), 0.0)
NEW = Started(attempt=1, deaths=0)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'new folder' / 'jobs.sqlite'}"


@pytest.fixture
def clock():
    """The clock of every store of the test."""
    return Clock()


@pytest.fixture
async def open_store(url, clock):
    """Open stores on one database, as services and their successors do."""
    opened = []

    async def open_one(owner=None):
        store = Store(url, owner or f"owner-{len(opened)}", clock=clock)
        opened.append(store)
        await store.open()
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store):
    return await open_store()


@pytest.fixture
async def other(open_store):
    return await open_store()


async def done(store, outcome, **facts):
    """Run a job to its end."""
    begun = await store.begin(job(**facts), redelivered=False)
    assert isinstance(begun, Started)
    assert await store.finish(job(**facts).id, outcome)


async def begin(store, *, redelivered=False, **facts):
    return await store.begin(job(**facts), redelivered=redelivered)


# ---------------------------------------------------------------- begin


async def test_a_new_job_is_ours_to_run(store):
    """The first start of a job is attempt 1, with no deaths."""
    assert await begin(store) == NEW


async def test_the_attempt_is_counted_before_the_start(store):
    """A start of ours that nobody finished counts: the next one knows of it."""
    await begin(store)
    assert await begin(store, redelivered=True) == Started(attempt=2, deaths=0)


async def test_jobs_do_not_mix(store):
    """Another id is another job."""
    await done(store, picture())
    assert await begin(store, job_id="job-2") == NEW


# ---------------------------------------------------------------- replay


async def test_a_success_is_replayed_and_marked(store):
    """A job that succeeded is answered with the same facts and bytes, marked, with its cost."""
    await done(store, picture(image=bytes(range(256))))
    facts = picture().facts.model_copy(update={"replayed": True})
    assert await begin(store) == Finished(Succeeded(facts, bytes(range(256))), 3.45)


@pytest.mark.parametrize(
    "outcome", [Refused(INVALID), Failed(INVALID), Poison(POISON)], ids=repr
)
async def test_a_failure_for_good_is_replayed(store, outcome):
    """What cannot succeed is not tried again; code, sentence and details are the same."""
    await done(store, outcome)
    assert await begin(store) == Finished(Failed(outcome.fault), 0.0)


@pytest.mark.parametrize(
    "outcome", [Failed(DIED), Expired(LATE), Abandoned(), GivenBack()], ids=repr
)
async def test_what_may_succeed_later_is_started_again(store, outcome):
    """A retryable failure, a passed deadline, a caller who left and came back, a stop of ours."""
    await done(store, outcome)
    assert await begin(store) == Started(attempt=2, deaths=0)


async def test_what_was_called_off_is_not_started_again(store):
    """A cancelled job stays so when it is delivered again."""
    await done(store, Cancelled(CANCELLED_FAULT))
    assert await begin(store, redelivered=True) == CALLED_OFF


async def test_a_second_try_may_succeed(store):
    """A success after a retryable failure is what is replayed from then on."""
    await done(store, Failed(DIED))
    await begin(store)
    await store.finish("job-1", picture())
    begun = await begin(store)
    assert isinstance(begun.outcome, Succeeded)


async def test_a_result_of_another_layout_is_drawn_again(store):
    """What we cannot read any more is no answer."""
    odd = picture()
    facts = odd.facts.model_copy(update={"format": "bmp"})
    await done(store, replace(odd, facts=facts))
    assert await begin(store) == Started(attempt=2, deaths=0)


# ---------------------------------------------------------------- whose id it is


@pytest.mark.parametrize(
    "outcome",
    [picture(), Failed(DIED), Cancelled(CANCELLED_FAULT), GivenBack()],
    ids=["success", "failure", "cancel", "stop"],
)
async def test_an_id_names_one_request_for_ever(store, outcome):
    """The same id with another body is a conflict, whatever became of the first."""
    await done(store, outcome)
    assert await begin(store, body="b") == Conflict()


async def test_an_id_of_a_running_job_is_taken(store, other):
    """Another body does not join a job that runs elsewhere."""
    await begin(store)
    assert await begin(other, body="b") == Conflict()


async def test_a_conflict_changes_nothing(store):
    """The first request is still answered from its result."""
    await done(store, picture())
    await begin(store, body="b")
    assert isinstance(await begin(store), Finished)


async def test_a_derived_id_is_looked_up_on_a_redelivery_only(store):
    """Two equal requests without an id are two; a redelivery of one is that one."""
    derived = {"source": IdSource.DERIVED}
    await done(store, picture(), **derived)
    assert isinstance(await begin(store, redelivered=True, **derived), Finished)
    assert await begin(store, **derived) == NEW
    assert await store.finish("job-1", picture(image=b"second"))
    assert (await begin(store, redelivered=True, **derived)).outcome.image == b"second"


async def test_equal_requests_share_a_run(store, other):
    """While one of two requests with the same derived id runs, the other is told to wait."""
    derived = {"source": IdSource.DERIVED}
    await begin(store, **derived)
    assert isinstance(await begin(other, **derived), Elsewhere)


# ---------------------------------------------------------------- leases


async def test_a_running_job_is_its_owners(store, other):
    """Who comes second is told who runs the job, and how long that is certain."""
    await begin(store)
    begun = await begin(other, redelivered=True)
    assert begun.owner == "owner-0"
    assert 0 < begun.left_s <= LEASE_S


async def test_a_lease_that_ended_is_taken_over(store, other, clock):
    """A job of an owner who says nothing is started elsewhere, with its deaths."""
    await begin(store)
    await store.count_death("job-1")
    clock.passes(LEASE_S)
    assert await begin(other, redelivered=True) == Started(attempt=2, deaths=1)
    assert isinstance(await begin(store, redelivered=True), Elsewhere)


async def test_a_renewed_lease_lives_on(store, other, clock):
    """However long a job takes, its owner keeps it by renewing."""
    await begin(store)
    for _ in range(10):
        clock.passes(RENEW_EVERY_S)
        await store.renew()
    assert isinstance(await begin(other, redelivered=True), Elsewhere)


async def test_a_renewal_is_of_our_own_jobs(store, other, clock):
    """Nobody keeps alive what somebody else runs, or what he lost."""
    await begin(store)
    clock.passes(LEASE_S)
    await other.renew()
    assert await begin(other, redelivered=True) == Started(attempt=2, deaths=0)
    clock.passes(LEASE_S)
    await store.renew()
    assert await begin(store, redelivered=True) == Started(attempt=3, deaths=0)


async def test_a_start_that_nobody_heard_of_is_not_kept_alive(store, other, clock):
    """Who was cancelled while a job began for him runs nothing: others may have it soon."""
    async with asyncio.TaskGroup() as tasks:
        unheard = tasks.create_task(begin(store))
        await asyncio.sleep(0)
        unheard.cancel()
    await store.probe()  # what comes after it in the same thread: the start is there by now
    assert isinstance(await begin(other, redelivered=True), Elsewhere)
    clock.passes(LEASE_S - 1)
    await store.renew()
    clock.passes(1)
    assert await begin(other, redelivered=True) == Started(attempt=2, deaths=0)


async def test_of_many_who_begin_at_once_one_starts(open_store):
    """Two or more that begin the same job in the same moment: one starts, the rest wait."""
    stores = [await open_store() for _ in range(4)]
    for number in range(10):
        begun = await asyncio.gather(
            *(begin(store, redelivered=True, job_id=f"job-{number}") for store in stores)
        )
        kinds = sorted(type(one).__name__ for one in begun)
        assert kinds == ["Elsewhere"] * 3 + ["Started"]


async def test_of_many_who_take_over_at_once_one_starts(open_store, clock):
    """A lease that ended has one heir."""
    dead, *heirs = [await open_store() for _ in range(4)]
    for number in range(10):
        await begin(dead, job_id=f"job-{number}")
    clock.passes(LEASE_S)
    for number in range(10):
        begun = await asyncio.gather(
            *(begin(store, redelivered=True, job_id=f"job-{number}") for store in heirs)
        )
        kinds = sorted(type(one).__name__ for one in begun)
        assert kinds == ["Elsewhere"] * 2 + ["Started"]


# ---------------------------------------------------------------- finish


async def test_the_first_end_counts(store):
    """The answer that is stored stays, and who comes second is told."""
    await done(store, picture())
    assert not await store.finish("job-1", Failed(DIED))
    begun = await begin(store)
    assert isinstance(begun.outcome, Succeeded)


async def test_who_lost_his_lease_does_not_end_the_job(store, other, clock):
    """A stalled owner that wakes up disturbs nothing: the end is the heir's."""
    await begin(store)
    clock.passes(LEASE_S)
    await begin(other, redelivered=True)
    assert not await store.finish("job-1", GivenBack())
    assert await other.finish("job-1", picture())


async def test_a_lease_that_ended_without_an_heir_is_still_good(store, clock):
    """A picture that took longer than anybody renewed is not thrown away."""
    await begin(store)
    clock.passes(LEASE_S)
    assert await store.finish("job-1", picture())


async def test_a_picture_is_better_than_none(store, other, clock):
    """Where the heir is dead too, the first owner's picture is taken."""
    await begin(store)
    clock.passes(LEASE_S)
    await begin(other, redelivered=True)
    clock.passes(LEASE_S)
    assert await store.finish("job-1", picture())
    assert isinstance(await begin(other, redelivered=True), Finished)


async def test_what_nobody_began_has_no_end(store):
    """An outcome without a job is not written."""
    assert not await store.finish("job-1", picture())
    assert await begin(store) == NEW


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize(
    ("by", "any_job", "of", "dies"),
    [
        (None, True, "anna", True),
        ("admin", True, "anna", True),
        ("anna", False, "anna", True),
        ("ben", False, "anna", False),
        (None, False, "anna", False),
        ("ben", False, None, True),
        (None, False, None, True),
    ],
)
async def test_a_cancel_that_comes_first_is_remembered(store, by, any_job, of, dies):
    """It counts for everybody's job, the same user's, or a job of nobody in particular."""
    await store.remember_cancel("job-1", by, any_job=any_job)
    await store.remember_cancel("job-1", by, any_job=any_job)
    begun = [await begin(store, user_id=of, redelivered=bool(again)) for again in range(2)]
    assert begun == ([CALLED_OFF] * 2 if dies else [NEW, Started(attempt=2, deaths=0)])


async def test_cancels_of_several_do_not_hide_each_other(store):
    """A stranger's cancel, before or after, takes nothing from the user's own."""
    for user in ("ben", "anna", "carl"):
        await store.remember_cancel("job-1", user, any_job=False)
    assert await begin(store, user_id="anna") == CALLED_OFF


async def test_a_cancel_may_gain_power(store):
    """A user who may cancel anything now counts, whatever he was before; and keeps it."""
    for any_job in (False, True, False):
        await store.remember_cancel("job-1", "admin", any_job=any_job)
    assert await begin(store, user_id="anna") == CALLED_OFF


async def test_a_job_that_waits_again_can_be_called_off(store):
    """A job that a stop gave back to the queue dies on arrival once it is cancelled."""
    await done(store, GivenBack())
    await store.remember_cancel("job-1", None, any_job=True)
    assert await begin(store, redelivered=True) == CALLED_OFF


async def test_a_job_that_runs_elsewhere_can_be_called_off(store, other, clock):
    """Should its owner die, nobody takes it over."""
    await begin(store)
    await other.remember_cancel("job-1", None, any_job=True)
    assert isinstance(await begin(other, redelivered=True), Elsewhere)
    clock.passes(LEASE_S)
    assert await begin(other, redelivered=True) == CALLED_OFF


@pytest.mark.parametrize("outcome", [picture(), Failed(INVALID)], ids=["success", "failure"])
async def test_a_cancel_does_not_undo_what_is_done(store, outcome):
    """A finished job keeps its answer."""
    await done(store, outcome)
    await store.remember_cancel("job-1", None, any_job=True)
    begun = await begin(store)
    assert type(begun.outcome) is type(outcome)


async def test_a_cancel_ends_with_its_job(store, other):
    """Another request with the same derived id is not the one that was called off."""
    derived = {"source": IdSource.DERIVED}
    await begin(store, **derived)
    await other.remember_cancel("job-1", None, any_job=True)
    await store.finish("job-1", Cancelled(CANCELLED_FAULT))
    assert await begin(other, redelivered=True, **derived) == CALLED_OFF
    assert await begin(other, **derived) == NEW


async def test_a_failure_does_not_outlive_a_cancel(store, other):
    """What was called off while it failed is not tried again."""
    await begin(store)
    await other.remember_cancel("job-1", None, any_job=True)
    await store.finish("job-1", Failed(DIED))
    assert await begin(other, redelivered=True) == CALLED_OFF


# ---------------------------------------------------------------- answers


async def test_who_was_answered_is_known(store, other):
    """The other consumer of a redelivery knows that its address has its answer."""
    await done(store, picture())
    assert not await other.was_answered("job-1", "a" * 64)
    await store.answered("job-1", "a" * 64)
    await store.answered("job-1", "a" * 64)
    assert await other.was_answered("job-1", "a" * 64)
    assert not await other.was_answered("job-1", "b" * 64)
    assert not await other.was_answered("job-2", "a" * 64)


async def test_another_run_is_another_answer(store):
    """Who got an error is told of the picture that a second request brought."""
    await done(store, Failed(DIED))
    await store.answered("job-1", "a" * 64)
    await begin(store)
    assert not await store.was_answered("job-1", "a" * 64)


# ---------------------------------------------------------------- deaths


async def test_deaths_are_counted_over_attempts(store):
    """Each attempt is told how often the job brought the GPU process down before."""
    await begin(store)
    assert [await store.count_death("job-1") for _ in range(2)] == [1, 2]
    await store.finish("job-1", Failed(DIED))
    assert await begin(store, redelivered=True) == Started(attempt=2, deaths=2)


async def test_a_stop_of_ours_is_no_death(store):
    """A job given back is no poison, however often."""
    for attempt in range(1, 6):
        assert await begin(store, redelivered=True) == Started(attempt, deaths=0)
        await store.finish("job-1", GivenBack())


async def test_a_death_of_no_job_is_noticed(store):
    """Only a database that is not ours any more has no row of a running job."""
    with pytest.raises(StoreLostError, match="row"):
        await store.count_death("job-1")


# ---------------------------------------------------------------- open and close


async def test_results_survive_their_service(open_store):
    """A service that opens the database of another answers from its results."""
    await done(await open_store(), picture())
    begun = await begin(await open_store(), redelivered=True)
    assert begun.outcome.image == b"picture"


async def test_close_may_come_twice_or_too_early(url):
    """A service that never came so far can be shut like any other."""
    store = Store(url, "owner")
    await store.close()
    await store.close()
    with pytest.raises(StoreLostError, match="closed"):
        await begin(store)


async def test_many_may_open_at_once(url):
    """The tables are made by one of those who find none."""
    stores = [Store(url, f"owner-{number}") for number in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert await begin(stores[0]) == NEW
    await asyncio.gather(*(store.close() for store in stores))


async def test_who_gave_up_waiting_leaves_the_store_usable(store):
    """A cancelled caller neither stops nor blocks the others."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(begin(store, job_id=f"job-{n}")) for n in range(5)]
        await asyncio.sleep(0)
        for task in started[::2]:
            task.cancel()
    assert [task.cancelled() for task in started] == [True, False] * 2 + [True]
    assert await begin(store, job_id="job-9") == NEW


async def test_a_probe_leaves_nothing(store, other):
    """It may be repeated for ever, by several at once."""
    for _ in range(3):
        await asyncio.gather(store.probe(), other.probe())
    assert await store.prune(ttl_s=60, max_bytes=0) == 0


# ---------------------------------------------------------------- prune


async def test_results_are_kept_for_their_time(store, clock):
    """After `ttl_s` seconds, and not long before, a result is gone and the job is new again."""
    await done(store, picture())
    clock.passes(3500)
    assert await store.prune(ttl_s=3600, max_bytes=1000) == 0
    clock.passes(101)
    assert await store.prune(ttl_s=3600, max_bytes=1000) == 1
    assert await begin(store) == NEW


async def test_cancels_and_answers_are_kept_for_their_time(store, clock):
    """What came without a job, or before it, does not stay for ever either."""
    await store.remember_cancel("job-1", "anna", any_job=True)
    await store.answered("job-2", "a" * 64)
    await store.prune(ttl_s=3600, max_bytes=0)
    assert await begin(store, user_id="anna") == CALLED_OFF
    assert await store.was_answered("job-2", "a" * 64)
    clock.passes(3601)
    assert await store.prune(ttl_s=3600, max_bytes=0) == 1
    assert await begin(store, user_id="anna") == NEW
    assert not await store.was_answered("job-2", "a" * 64)


async def test_answers_go_with_their_job(store, clock):
    """A picture that made room takes along who had it."""
    await done(store, picture())
    await store.answered("job-1", "a" * 64)
    assert await store.prune(ttl_s=3600, max_bytes=0) == 1
    assert not await store.was_answered("job-1", "a" * 64)


async def test_a_running_job_is_never_pruned(store, clock):
    """However long a job takes, its deaths are remembered until it ends."""
    await begin(store)
    await store.count_death("job-1")
    for _ in range(3):
        clock.passes(50_000)
        await store.renew()
        assert await store.prune(ttl_s=60, max_bytes=0) == 0
    assert await begin(store, redelivered=True) == Started(attempt=2, deaths=1)


@pytest.mark.parametrize("outcome", [None, GivenBack()], ids=["running", "given back"])
async def test_what_nobody_came_back_for_goes_after_a_day(store, clock, outcome):
    """A job that a service left behind and no delivery brought again does not stay for ever."""
    await begin(store)
    if outcome:
        await store.finish("job-1", outcome)
    clock.passes(80_000)
    assert await store.prune(ttl_s=60, max_bytes=0) == 0
    clock.passes(10_000)
    assert await store.prune(ttl_s=60, max_bytes=0) == 1


async def test_the_oldest_results_make_room(store, clock):
    """Beyond `max_bytes` the oldest go first, and no more than needed."""
    for number in range(4):
        clock.passes(1)
        await done(store, picture(image=b"x" * 100), job_id=f"job-{number}")
    assert await store.prune(ttl_s=60, max_bytes=250) == 2
    kept = [
        isinstance(await begin(store, job_id=f"job-{number}"), Finished) for number in range(4)
    ]
    assert kept == [False, False, True, True]


async def test_errors_are_not_pruned_for_room(store):
    """Only pictures take room; a refusal is kept for its time."""
    await done(store, Failed(INVALID))
    assert await store.prune(ttl_s=60, max_bytes=0) == 0


async def test_many_go_in_small_parts(store, other, clock):
    """Of more than fit into one transaction all go, with two services at it and work between."""

    def fill(desk):
        for number in range(130):
            records.begin(job(f"old-{number}"), True, desk)  # noqa: FBT003
            records.finish(f"old-{number}", picture(), desk)
            notes.answered(f"old-{number}", "a" * 64, desk)
            notes.remember_cancel(f"unseen-{number}", None, True, desk)  # noqa: FBT003

    await store._step(fill)
    clock.passes(3601)
    one, two, *_ = await asyncio.gather(
        store.prune(ttl_s=3600, max_bytes=1000),
        other.prune(ttl_s=3600, max_bytes=1000),
        *(done(store, picture(), job_id=f"new-{number}") for number in range(20)),
    )
    assert one + two == 130
    assert not await other.was_answered("old-129", "a" * 64)
    assert isinstance(await begin(other, job_id="new-19"), Finished)


# ---------------------------------------------------------------- the clock


async def test_the_clock_counts_milliseconds(store):
    """Both databases tell the time in the same unit, close to ours."""
    told = await store._database.transaction(now_ms)
    assert abs(told / 1000 - datetime.now(tz=UTC).timestamp()) < 60


async def test_a_new_request_is_answered_though_its_ids_were_used_before(store):
    """The note of an answer counts for redeliveries; a fresh request takes it back."""
    await store.answered("job-1", "anna")
    assert await store.was_answered("job-1", "anna")
    assert not await store.was_answered("job-1", "anna", redelivered=False)
    assert not await store.was_answered("job-1", "anna")
