"""The GPU process under random faults: a state machine on a clock of its own.

The machine plays the child on the other end of a real socket, so that a fault can come at every
wait of the parent's code: before, within and after every message, and in every state.
"""

import asyncio
import contextlib
import signal
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumer.gpu import process
from consumer.gpu.child import Child
from consumer.gpu.process import (
    Frame,
    GpuDefunctError,
    GpuLimits,
    GpuProcess,
    GpuStartError,
    GpuState,
)
from consumer.gpu.protocol import Cancel, Done, LoadFailed, Loading, Step, encode
from tests.drawing import load
from tests.stage import FORWARDS, Actor, Asked, Clockwork

LIMITS = GpuLimits(
    job_timeout_s=300,
    step_floor_s=30,
    step_factor=10,
    defunct_exit_s=300,
    canary_every_s=30,
    recycle_bytes=100,
)


def _send_half(actor):
    if actor.wanted is not None:
        done = Done(actor.wanted.id, 4, 4, FORWARDS, {}, {})
        actor.wanted = None
        actor.noise(encode(done, 48) + bytes(24))


MANNERS = st.sampled_from(["leaves", "leaves", "leaves", "terminates", "killed", "undead"])
CODES = st.sampled_from(["invalid_request", "out_of_memory", "nan_output", "internal"])
JOBS = st.sampled_from("abc")
WHICH = st.integers(0, 9)


class GpuUnderFaults(RuleBasedStateMachine):
    """Jobs come and go, children load, draw, fail, hang and die; each in any order."""

    @initialize()
    def start(self):
        self.loop = Clockwork()
        self.actors, self.asked, self.over = [], [], False
        self.refuse_spawn = 0
        self.manners = "leaves"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(process, "spawn", self._spawn)
        self.loop.run_until_complete(self._begin())
        self._settle()
        self.work(1)

    async def _begin(self):
        self.gpu = GpuProcess(load(), LIMITS)
        self.supervision = self.loop.create_task(self.gpu.run())

    async def _spawn(self, command, ears, pace, limits):
        if self.refuse_spawn:
            self.refuse_spawn -= 1
            raise BlockingIOError("Resource temporarily unavailable")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        actor = Actor(theirs, self.manners)
        self.actors.append(actor)
        child = Child(actor, ours, ears, pace, limits)
        child.send(command)
        return child

    def _settle(self):
        for _ in range(3):
            self.loop.settle()
            for actor in self.actors:
                actor.listen()

    # ------------------------------------------------------------ callers

    @rule(job=JOBS)
    def ask(self, job):
        """Somebody wants a picture."""
        self.asked.append(Asked(self.gpu, self.loop, job))
        self._settle()

    @rule(job=JOBS, turns=st.integers(0, 6))
    def ask_and_stop(self, job, turns):
        """Somebody changes his mind within a few turns of the event loop."""
        asked = Asked(self.gpu, self.loop, job)
        self.asked.append(asked)
        self.loop.run_until_complete(self._stop_after(asked, turns))
        self._settle()

    async def _stop_after(self, asked, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.stop.set()

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def stop_job(self, which):
        """A job is called off, whether waiting, in the child, or over."""
        self.asked[which % len(self.asked)].stop.set()
        self._settle()

    @precondition(lambda self: self.asked)
    @rule(which=WHICH)
    def cancel_caller(self, which):
        """The task of a caller is cancelled."""
        asked = self.asked[which % len(self.asked)]
        asked.abandoned = True
        asked.task.cancel()
        self._settle()

    # ------------------------------------------------------------ the child

    @rule(times=st.integers(1, 8))
    def work(self, times):
        """The child does what it should, for a while."""
        for _ in range(times):
            self._now_the_child(Actor.act)

    @rule(job=JOBS)
    def ask_and_work(self, job):
        """Somebody wants a picture, and a healthy child has time for two."""
        self.ask(job)
        self.work(2 * FORWARDS + 8)

    @rule(jobs=st.lists(JOBS, min_size=2, max_size=6), code=CODES)
    def fail_often(self, jobs, code):
        """One picture after the other fails in the same way."""
        for job in jobs:
            self.ask(job)
            self.work(2)
            if self.actors[-1].wanted:
                self.fail(code)

    @rule(
        job=JOBS, residents=st.lists(st.sampled_from([10, 105, 1000]), min_size=4, max_size=5)
    )
    def hold_more_and_more(self, job, residents):
        """Pictures come out, and something stays in memory."""
        for resident in residents:
            self.ask(job)
            self.work(1)
            if self.actors[-1].alive and self.actors[-1].wanted:
                self.finish(resident)

    @rule()
    def let_a_canary_sing(self):
        """Long enough for a test picture, with a child that would draw it."""
        self.wait(31)
        self.work(8)

    @precondition(lambda self: self.actors and self.actors[-1].loaded)
    @rule(code=st.sampled_from([0, 1, 70, -signal.SIGKILL, -signal.SIGSEGV]))
    def die(self, code):
        """The child goes, by itself or by somebody's hand."""
        self._now_the_child(lambda actor: actor.die(code))

    @precondition(lambda self: self.actors and self.actors[-1].alive)
    @rule(code=st.sampled_from([1, -signal.SIGKILL]))
    def die_in_any_state(self, code):
        """Also while loading."""
        self._now_the_child(lambda actor: actor.die(code))

    @precondition(lambda self: self.gpu.state is GpuState.READY)
    @rule(job=JOBS, code=st.sampled_from([1, -signal.SIGKILL]))
    def ask_and_die(self, job, code):
        """The child goes before the parent can know of it, with a picture under way to it."""
        for actor in self.actors[-1:]:
            actor.die(code)
        self.ask(job)

    @precondition(lambda self: self.actors and self.actors[-1].wanted)
    @rule(code=CODES)
    def fail(self, code):
        """The child says why there is no picture."""
        self._now_the_child(lambda actor: actor.fail(code))

    @precondition(lambda self: self.actors and self.actors[-1].wanted)
    @rule(resident=st.sampled_from([0, 0, 1000, 2000]))
    def finish(self, resident):
        """The child is done with a picture, and holds more memory than before."""
        self._now_the_child(lambda actor: actor.finish(resident))

    @precondition(lambda self: self.gpu.state in {GpuState.READY, GpuState.BUSY})
    @rule(job=JOBS, code=st.sampled_from([1, -signal.SIGKILL]))
    def die_with_the_pixels(self, job, code):
        """The child dies with half of the picture sent."""
        self.ask(job)
        self._now_the_child(_send_half)
        self._now_the_child(lambda actor: actor.die(code))

    @precondition(lambda self: self.actors and not self.actors[-1].loaded and self.gpu.ready)
    @rule()
    def fail_to_load(self):
        """The model cannot be loaded just now, though it could before."""
        failed = LoadFailed("The hub is away.", permanent=False)
        self._now_the_child(lambda actor: (actor.say(failed), actor.die(1)))

    @precondition(lambda self: self.actors and self.actors[-1].loaded)
    @rule(
        noise=st.sampled_from([b"\xff" * 16, encode(Step("nobody", 1, 3)), encode(Cancel("x"))])
    )
    def talk_nonsense(self, noise):
        """The child says what is no message, or not one for now."""
        self._now_the_child(lambda actor: actor.noise(noise))

    @rule()
    def tell_of_loading(self):
        """A sentence for the log, whenever."""
        self._now_the_child(lambda actor: actor.say(Loading("a note")))

    def _now_the_child(self, do):
        for actor in self.actors[-1:]:
            if actor.alive:
                do(actor)
        self._settle()

    # ------------------------------------------------------------ the world

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 6, 31, 100, 301]))
    def wait(self, seconds):
        """Time passes, with all that falls due in it."""
        self.loop.now += seconds
        self._settle()

    @rule(manners=MANNERS)
    def change_manners(self, manners):
        """The next children heed other words when they are to go."""
        self.manners = manners

    @rule()
    def refuse_a_process(self):
        """The next start finds no process."""
        self.refuse_spawn = 1

    @precondition(lambda self: len(self.asked) > 15)
    @rule()
    def stop_everything(self):
        """The service goes down."""
        self.loop.create_task(self.gpu.stop())
        self._settle()

    # ------------------------------------------------------------ what always holds

    @invariant()
    def every_call_ends_at_most_once_and_in_our_words(self):
        for asked in self.asked:
            asked.check()

    @invariant()
    def nobody_waits_for_a_child_that_is_free(self):
        waiting = [each for each in self.asked if not each.task.done() and not each.starts]
        free = self.gpu.state is GpuState.READY and self.gpu._child.free
        assert not (waiting and free)

    @invariant()
    def one_picture_is_in_hand_at_most(self):
        in_hand = [each for each in self.asked if not each.task.done() and each.starts]
        assert len(in_hand) <= 1

    @invariant()
    def the_supervision_ends_for_a_reason_and_takes_all_with_it(self):
        if not self.supervision.done():
            return
        assert self.gpu.state is GpuState.STOPPED
        assert all(each.task.done() for each in self.asked)
        error = self.supervision.exception()
        assert error is None or isinstance(error, GpuDefunctError | GpuStartError)

    @invariant()
    def what_is_usable_is_there_or_about_to_be(self):
        never = {GpuState.DEFUNCT, GpuState.STOPPED}
        assert not (self.gpu.usable and self.gpu.state in never)

    # ------------------------------------------------------------ and in the end

    def teardown(self):
        """When the faults stop, a picture can be drawn; and a stop ends everything."""
        try:
            self.manners, self.refuse_spawn = "leaves", 0
            self._recover()
            stop = self.loop.create_task(self.gpu.stop())
            for _ in range(100):
                self.loop.now += 1
                self._settle()
            assert stop.done()
            assert self.supervision.done()
            assert all(asked.task.done() for asked in self.asked)
            self.every_call_ends_at_most_once_and_in_our_words()
        finally:
            self.patch.undo()
            self._close()

    def _recover(self):
        last = Asked(self.gpu, self.loop, "last")
        self.asked.append(last)
        for _ in range(400 + 10 * len(self.asked)):  # those before it have their turns, too
            if last.task.done() or self.supervision.done():
                break
            self.loop.now += 1
            self._now_the_child(Actor.act)
        # Stopped, the supervision may still see to a child that does not want to go.
        if self.gpu.state is not GpuState.STOPPED:
            assert isinstance(last.task.result(), Frame)

    def _close(self):
        for actor in self.actors:
            actor.die(-signal.SIGKILL)
        with contextlib.suppress(GpuDefunctError, GpuStartError):
            if self.supervision.done():
                self.supervision.result()
        self.loop.settle()
        self.loop.close()


GpuUnderFaults.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
)
TestGpuUnderFaults = GpuUnderFaults.TestCase
