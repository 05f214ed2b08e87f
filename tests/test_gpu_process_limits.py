"""The limits of the GPU process: pace, watch, breaker and wear, without a child and without waiting."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.gpu.breaker import NOBODY, Breaker
from consumer.gpu.limits import BREAKER_FAILURES, GpuLimits
from consumer.gpu.pace import COLD_FACTOR, KEPT, Pace
from consumer.gpu.picture import Picture
from consumer.gpu.protocol import Generate, Stage
from consumer.gpu.watch import SECOND_LOOK_S, Watch
from consumer.gpu.wear import WARM_PICTURES, Wear

LIMITS = GpuLimits()
SMALL, LARGE = (512, 512), (1024, 1024)
MIB = 1 << 20


# ---------------------------------------------------------------- pace


@pytest.fixture
def pace():
    return Pace(LIMITS)


@pytest.mark.parametrize("stage", Stage)
def test_a_size_that_was_never_drawn_has_the_hard_limit(pace, stage):
    """A first picture may compile kernels for minutes: no other size says for how long."""
    pace.learn(SMALL, stage, 0.1)
    assert pace.silence_s(LARGE, stage, cold=False) == LIMITS.job_timeout_s
    assert pace.silence_s(SMALL, stage, cold=False) < LIMITS.job_timeout_s


@pytest.mark.parametrize(
    ("measured", "patience"), [(0.01, 30), (2.9, 30), (4, 40), (29, 290), (31, 300)]
)
def test_a_silence_may_last_ten_times_what_was_measured(pace, measured, patience):
    """Never less than the floor, never more than the hard limit."""
    pace.learn(SMALL, Stage.DENOISE, measured)
    assert pace.silence_s(SMALL, Stage.DENOISE, cold=False) == patience


def test_a_stage_that_was_never_measured_does_not_borrow_from_another(pace):
    """A decode is no step: it has the hard limit until it was measured itself."""
    pace.learn(SMALL, Stage.DENOISE, 0.1)
    assert pace.silence_s(SMALL, Stage.VAE_DECODE, cold=False) == LIMITS.job_timeout_s


def test_a_child_is_given_more_time_for_its_first_picture(pace):
    """It loads kernels and reserves memory, within the hard limit."""
    pace.learn(SMALL, Stage.DENOISE, 4)
    assert pace.silence_s(SMALL, Stage.DENOISE, cold=True) == COLD_FACTOR * 40
    pace.learn(LARGE, Stage.DENOISE, 20)
    assert pace.silence_s(LARGE, Stage.DENOISE, cold=True) == LIMITS.job_timeout_s


def test_one_slow_first_picture_does_not_count_for_long(pace):
    """The median is what a stage takes: minutes of compiling are forgotten with the second picture."""
    for seconds in (600.0, 2.0, 2.0):
        pace.learn(SMALL, Stage.VAE_DECODE, seconds)
    assert pace.silence_s(SMALL, Stage.VAE_DECODE, cold=False) == LIMITS.step_floor_s


def test_only_the_last_times_count(pace):
    """A GPU that became slower for good is not judged by what it once was."""
    for seconds in [0.1] * 100 + [1.0] * KEPT:
        pace.learn(SMALL, Stage.DENOISE, seconds)
    assert pace.step_s(*SMALL) == 1.0


def test_nothing_is_foretold_before_anything_was_measured(pace):
    """None is no promise; a picture is foretold when each of its stages was measured once."""
    assert pace.step_s(*SMALL) is None
    assert pace.picture_s(*SMALL, 8) is None
    pace.learn(SMALL, Stage.TEXT_ENCODE, 0.5)
    pace.learn(SMALL, Stage.VAE_DECODE, 0.2)
    assert pace.picture_s(*SMALL, 8) is None
    assert pace.picture_s(*SMALL, 1) == pytest.approx(0.7)
    pace.learn(SMALL, Stage.DENOISE, 0.1)
    assert pace.picture_s(*SMALL, 8) == pytest.approx(0.5 + 7 * 0.1 + 0.2)


def test_another_size_is_foretold_by_its_pixels(pace):
    """From the size that is nearest to it, of those that were drawn."""
    pace.learn(SMALL, Stage.DENOISE, 0.1)
    assert pace.step_s(*LARGE) == pytest.approx(0.4)
    pace.learn((1024, 768), Stage.DENOISE, 0.6)
    assert pace.step_s(*LARGE) == pytest.approx(0.8)
    assert pace.step_s(768, 1024) == 0.6
    assert pace.step_s(*SMALL) == 0.1


def test_the_first_load_may_take_for_ever_and_no_later_one(pace):
    """The first is perhaps a download; a later one that takes far longer hangs."""
    assert pace.load_s() is None
    pace.learn_load(5)
    assert pace.load_s() == LIMITS.job_timeout_s
    pace.learn_load(60)
    pace.learn_load(5)
    assert pace.load_s() == 600


# ---------------------------------------------------------------- watch


class Clock:
    """The event loop's clock and its alarms, for a watch that is put in it."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self._alarms = []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)

    def call_at(self, when, call, *arguments):
        alarm = _Alarm(when, call, arguments)
        self._alarms.append(alarm)
        return alarm

    def call_later(self, delay, call, *arguments):
        return self.call_at(self.now + delay, call, *arguments)

    def pass_until(self, when):
        """Let time pass, with the alarms that fall due."""
        while due := [alarm for alarm in self._alarms if alarm.when <= when]:
            first = min(due, key=lambda alarm: alarm.when)
            self._alarms.remove(first)
            self.now = max(self.now, first.when)
            if not first.cancelled:
                first.call(*first.arguments)
        self.now = when


class _Alarm:
    def __init__(self, when, call, arguments):
        self.when, self.call, self.arguments = when, call, arguments
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def called():
    """What was called a hang."""
    return []


@pytest.fixture
def watch(clock, pace, called):
    return Watch(pace, LIMITS, called.append)


def picture(now, size=SMALL):
    made = Picture(
        Generate("job-1", "x", *size, 1, 8, 0.0), lambda *_: None, lambda: None, None
    )
    made.start(now)
    return made


def test_a_silence_is_called_a_hang_at_the_second_look(watch, clock, pace, called):
    """The news may lie unread while our own event loop is late: a moment is left for it."""
    pace.learn(SMALL, Stage.TEXT_ENCODE, 0.1)
    watch.drawing(picture(clock.now), None, cold=False)
    clock.pass_until(130.0)
    assert called == []
    clock.pass_until(130.0 + SECOND_LOOK_S)
    assert called == ["nothing heard for 30 s in text_encode"]


def test_news_at_the_second_look_puts_it_off(watch, clock, pace, called):
    """What was heard after the first look is heard in time."""
    pace.learn(SMALL, Stage.TEXT_ENCODE, 0.1)
    pace.learn(SMALL, Stage.DENOISE, 0.1)
    drawn = picture(clock.now)
    watch.drawing(drawn, None, cold=False)
    clock.pass_until(130.1)
    drawn.enter(Stage.DENOISE, clock.now)
    watch.drawing(drawn, None, cold=False)
    clock.pass_until(160.0)
    assert called == []
    clock.pass_until(161.0)
    assert called == ["nothing heard for 30 s in denoise"]


def test_no_news_puts_off_the_hard_limit(watch, clock, called):
    """A picture that tells of step after step without end is ended all the same."""
    drawn = picture(clock.now)
    for _ in range(1000):
        watch.drawing(drawn, None, cold=False)
        clock.pass_until(clock.now + 1)
        drawn.enter(Stage.DENOISE, clock.now)
        if called:
            break
    assert called == ["no picture within 300 s"]
    assert clock.now == 401.0


def test_a_picture_that_ended_while_we_slept_is_no_hang(watch, clock, called):
    """Our own process was stopped past the hard limit: what lies unread is read first."""
    watch.drawing(picture(clock.now), None, cold=False)
    clock.pass_until(400.0)
    watch.drawing(None, None, cold=False)
    clock.pass_until(1e9)
    assert called == []


def test_pixels_that_do_not_arrive_are_waited_for_within_the_hard_limit(watch, clock, called):
    """A picture that is drawn is not there yet."""
    watch.drawing(None, picture(clock.now), cold=False)
    clock.pass_until(400.0)
    assert called == []
    clock.pass_until(400.0 + SECOND_LOOK_S)
    assert called == ["no picture within 300 s"]


def test_the_second_load_is_watched(watch, clock, pace, called):
    """A child that was loaded in time before is not waited for without end."""
    watch.loading(clock.now)
    clock.pass_until(1e9)
    assert called == []
    pace.learn_load(60)
    watch.loading(clock.now)
    clock.pass_until(clock.now + 600 + SECOND_LOOK_S)
    assert called == ["not loaded within 600 s"]


def test_rest_calls_nothing(watch, clock, called):
    """With no picture in hand, and after its end, a child is watched no more."""
    watch.drawing(picture(clock.now), None, cold=False)
    watch.drawing(None, None, cold=False)
    clock.pass_until(1e9)
    watch.drawing(picture(clock.now), None, cold=False)
    watch.rest()
    watch.rest()
    clock.pass_until(2e9)
    assert called == []


# ---------------------------------------------------------------- the breaker


def after(culprits, breaker=Breaker()):  # noqa: B008 - a frozen value
    """The breaker after a failure of each of them, a second apart."""
    for now, culprit in enumerate(culprits):
        breaker = breaker.failure(culprit, float(now))
    return breaker


def test_five_failures_of_two_jobs_open_it():
    """The fifth opens, not the fourth; the time is kept."""
    assert not after("aabb").open
    opened = after("aabba")
    assert opened.open
    assert opened.opened == 4.0


@pytest.mark.parametrize("failures", [3, BREAKER_FAILURES, 100])
def test_one_job_alone_never_opens_it(failures):
    """It may be poison; the GPU is accused by others too, or not at all."""
    breaker = after(["a"] * failures)
    assert not breaker.open
    assert breaker.failure("b", 0.0).open == (failures >= BREAKER_FAILURES - 1)


def test_deaths_without_a_job_open_it():
    """Nobody's picture was in hand, so nobody's request is to blame."""
    assert not after([NOBODY] * 4).open
    assert after([NOBODY] * 5).open
    assert after(["a", "a", "a", "a", NOBODY]).open


def test_a_picture_closes_it():
    """Whatever was counted is forgotten with a picture that comes out."""
    assert after("abab").success() == Breaker()
    assert after("ababa").success() == Breaker()
    assert not after("b", after("abab").success()).open


def test_it_opens_once():
    """Further failures move the next test picture, not the time to give up."""
    opened = after("ababa")
    later = opened.failure("canary", 50.0)
    assert later.opened == 4.0
    assert opened.canary_at(LIMITS) == 4.0 + LIMITS.canary_every_s
    assert later.canary_at(LIMITS) == 50.0 + LIMITS.canary_every_s
    assert later.exit_at(LIMITS) == opened.exit_at(LIMITS) == 4.0 + LIMITS.defunct_exit_s


def test_while_closed_there_is_nothing_to_give_up():
    """Only an open breaker has an end."""
    assert after("abab").exit_at(LIMITS) is None


@given(st.lists(st.sampled_from(["a", "b", NOBODY, "success"])))
def test_it_is_open_exactly_when_five_in_a_row_were_not_one_jobs(events):
    """Of any history, the failures since the last picture decide, and once open it stays so."""
    breaker, row, opened = Breaker(), [], False
    for now, event in enumerate(events):
        if event == "success":
            breaker, row, opened = breaker.success(), [], False
        else:
            breaker = breaker.failure(event, float(now))
            row.append(event)
            opened |= len(row) >= 5 and (NOBODY in row or len(set(row)) > 1)
        assert breaker.open == opened
        assert breaker.failures == len(row)


# ---------------------------------------------------------------- wear


def grown(readings, size=SMALL, wear=Wear()):  # noqa: B008 - a frozen value
    """The growth that is seen after each picture with this much resident memory, in MiB."""
    seen = []
    for mib in readings:
        wear = wear.after(math.prod(size), {"resident": mib * MIB})
        seen.append(wear.growth({"resident": mib * MIB}) // MIB)
    return seen, wear


def test_what_the_first_pictures_take_is_needed():
    """Caches fill in the first three; what comes on top of the most of them is growth."""
    seen, _ = grown([100, 900, 800, 850, 950, 1900])
    assert seen[:WARM_PICTURES] == [0, 0, 0]
    assert seen[3:] == [0, 50, 1000]


def test_a_larger_picture_may_take_more():
    """It is no leak that a large picture leaves more than a small one; what comes after it may be."""
    _, wear = grown([100, 100, 100, 100])
    seen, wear = grown([3000, 3000, 3000, 3010], LARGE, wear)
    assert seen == [0, 0, 0, 10]
    seen, _ = grown([3000, 3500], SMALL, wear)
    assert seen == [0, 500]


@pytest.mark.parametrize("reading", ["resident", "allocated", "reserved"])
def test_every_kind_of_memory_is_watched(reading):
    """The process's own, and the device's: the worst of them counts."""
    memory = {"resident": 1, "allocated": 1, "reserved": 1, "peak": 1}
    wear = Wear()
    for _ in range(WARM_PICTURES):
        wear = wear.after(1, memory)
    assert wear.growth({**memory, reading: 1 + 5 * MIB}) == 5 * MIB
    assert wear.growth({**memory, "peak": 1 + 5 * MIB}) == 0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), min_size=1))
def test_a_leak_is_seen_however_sizes_are_mixed(pictures):
    """Growth is what is beyond the most that the warm pictures of growing sizes took."""
    wear = Wear()
    for pixels, resident in pictures:
        wear = wear.after(pixels, {"resident": resident})
    assert wear.pictures == len(pictures)
    assert wear.largest == max(pixels for pixels, _ in pictures)
    leaked = max(resident for _, resident in pictures) + 7
    assert wear.growth({"resident": leaked}) >= 7
