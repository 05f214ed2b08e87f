"""The GPU process on a broken GPU: the breaker, its test pictures, recycling, and what may be taken.

Real children with the scripted pipeline; its file of faults breaks every picture, ours too.
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace

import pytest

from consumer.gpu import process
from consumer.gpu.process import (
    DrawingFailedError,
    DrawingStoppedError,
    GpuDefunctError,
    GpuDiedError,
    GpuProcess,
    GpuState,
)
from tests.drawing import Drawing, command, limits, load, running

SOON_S = 0.05
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch):
    """Replacements come at once: how long we wait before them is not the question here."""
    monkeypatch.setattr(process, "BACKOFF_S", (0.0,))


class Faults:
    """Words that go for every picture of a model, until they are taken away."""

    def __init__(self, folder):
        self._path = folder / "faults"
        self.load = replace(load(), data_dir=str(folder))

    def strike(self, words):
        self._path.write_text(words)

    def end(self):
        self._path.unlink()


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path)


class Changes:
    """The states a GPU process goes through, and whether it may be given work in each."""

    def __init__(self):
        self.gpu = None
        self.seen = []
        self._moved = asyncio.Event()

    def __call__(self, _):
        self.seen.append((self.gpu.state, self.gpu.usable))
        self._moved.set()

    async def reach(self, state):
        """Return once it is in this state."""
        while self.gpu.state is not state:
            await self._next()

    async def reach_again(self, state, times):
        """Return once it was told of this state so often."""
        while sum(was is state for was, _ in self.seen) < times:
            await self._next()

    async def _next(self):
        self._moved.clear()
        await self._moved.wait()


async def fail(gpu, jobs, prompt="x"):
    """Ask for pictures, one for each of these jobs, of which none comes out."""
    for job in jobs:
        with pytest.raises((DrawingFailedError, GpuDiedError)):
            await Drawing(gpu, prompt, job)


# ---------------------------------------------------------------- the breaker


@pytest.mark.parametrize("fault", ["boom", "oom", "nan", "flat", "lost", "exit"])
async def test_a_gpu_that_fails_two_jobs_five_times_is_taken_for_broken(faults, fault):
    """Work is refused and those who wait go on waiting, until a test picture comes out."""
    async with running(faults.load, canary_every_s=SOON_S) as gpu:
        pid = gpu.pid
        faults.strike(fault)
        await fail(gpu, "abab")
        assert gpu.usable
        await fail(gpu, "a")
        assert (gpu.state, gpu.usable) == (GpuState.DEFUNCT, False)
        waiting = Drawing(gpu, "x", "waiting")
        await asyncio.sleep(3 * SOON_S)  # test pictures fail meanwhile
        assert not waiting.task.done()
        assert gpu.state is GpuState.DEFUNCT
        faults.end()
        assert (await waiting).forwards == 8
        assert (gpu.state, gpu.usable) == (GpuState.READY, True)
        assert gpu.pid != pid


async def test_a_test_picture_comes_out_of_a_fresh_child(faults):
    """The child that failed is not asked again: its context may be what is broken."""
    async with running(faults.load, canary_every_s=3600) as gpu:
        pid = gpu.pid
        faults.strike("boom")
        await fail(gpu, "ababa")
        faults.end()
        while gpu.pid == pid or not gpu._child.free:
            await gpu._moved.wait()
        assert (gpu.state, gpu.usable) == (GpuState.DEFUNCT, False)
        assert gpu.restarts == {"defunct": 1}


async def test_a_gpu_that_stays_broken_is_given_up(faults):
    """Without a good test picture in time the supervision ends; who waits is told, unblamed."""
    gpu = GpuProcess(faults.load, limits(canary_every_s=SOON_S, defunct_exit_s=1.0))
    supervisor = asyncio.get_running_loop().create_task(gpu.run())
    await gpu.wait_ready()
    faults.strike("nan")
    await fail(gpu, "ababa")
    with pytest.raises(DrawingStoppedError):
        await Drawing(gpu, "x", "waiting")
    with pytest.raises(GpuDefunctError, match="no test picture came out within 1 s"):
        await supervisor
    assert gpu.state is GpuState.STOPPED


async def test_a_child_that_never_loads_again_is_given_up(faults):
    """Deaths while loading open the breaker too, and no child at all is no good picture either."""
    gpu = GpuProcess(faults.load, limits(canary_every_s=SOON_S, defunct_exit_s=0.5))
    supervisor = asyncio.get_running_loop().create_task(gpu.run())
    await gpu.wait_ready()
    faults.strike("die_loading")
    os.kill(gpu.pid, signal.SIGKILL)
    with pytest.raises(GpuDefunctError):
        await supervisor
    assert gpu.restarts["died"] >= 5


@pytest.mark.parametrize("fault", ["fail_loading", "refuse_loading"])
async def test_a_replacement_that_cannot_load_is_one_more_death(faults, fault):
    """What was loaded once may be loaded again, whatever the child says: it is tried on."""
    changes = Changes()
    gpu = changes.gpu = GpuProcess(faults.load, limits(canary_every_s=SOON_S), changes)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await gpu.wait_ready()
        faults.strike(fault)
        os.kill(gpu.pid, signal.SIGKILL)
        await changes.reach_again(GpuState.DEAD, 2)
        assert not gpu.usable
        waiting = Drawing(gpu, "x", "waiting")
        faults.end()
        assert (await waiting).forwards == 8
        assert gpu.usable
        await gpu.stop()


async def test_one_job_that_kills_its_child_does_not_break_the_gpu(tmp_path):
    """Three deaths of one job are that job's; the next job is drawn, and the count is forgotten."""
    async with running() as gpu:
        for _ in range(2):
            await fail(gpu, "aaa", "exit")
            assert gpu.usable
            assert (await Drawing(gpu)).forwards == 8
        assert gpu.state is GpuState.READY
        assert gpu.restarts == {"died": 6}


async def test_what_is_not_the_gpus_doing_does_not_break_it(faults):
    """Prompts that are too long, and stops, may come in any number."""
    async with running(faults.load) as gpu:
        await fail(gpu, "ababab", "long")
        for job in "ababab":
            drawing = Drawing(gpu, "step=0.02", job)
            await drawing.first_step.wait()
            drawing.stop.set()
            with pytest.raises(DrawingStoppedError):
                await drawing
        assert gpu.state is GpuState.READY
        assert gpu.restarts.total() == 0


async def test_a_stop_ends_the_wait_for_a_broken_gpu(faults):
    """A job's own stop counts while nothing is drawn; so does ours."""
    async with running(faults.load, canary_every_s=3600) as gpu:
        faults.strike("boom")
        await fail(gpu, "ababa")
        first, second = Drawing(gpu, "x", "first"), Drawing(gpu, "x", "second")
        await asyncio.sleep(0)  # they stand in the line
        first.stop.set()
        with pytest.raises(DrawingStoppedError):
            await first
        assert not second.task.done()
        await gpu.stop()
        with pytest.raises(DrawingStoppedError):
            await second


async def test_deaths_while_loading_break_it():
    """Five children that die before they are ready: broken, and tried on."""
    changes = Changes()
    gpu = changes.gpu = GpuProcess(load("tests.pipelines:DiesLoading"), limits(), changes)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await changes.reach(GpuState.DEFUNCT)
        states = [state for state, _ in changes.seen]
        assert states.count(GpuState.DEAD) == 5
        while gpu.restarts["died"] < 7:
            await gpu._moved.wait()
        assert gpu.state is GpuState.DEFUNCT
        await gpu.stop()


# ---------------------------------------------------------------- whether work may be taken


async def test_work_is_taken_over_one_death_and_not_over_a_start_that_failed(faults):
    """While the first successor is on its way, yes; when that one dies too, no; with a child, yes."""
    changes = Changes()
    gpu = changes.gpu = GpuProcess(faults.load, limits(), changes)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        assert not gpu.usable
        await gpu.wait_ready()
        assert all(not usable for _, usable in changes.seen[:-1])
        assert changes.seen[-1] == (GpuState.READY, True)
        faults.strike("die_loading")
        os.kill(gpu.pid, signal.SIGKILL)
        await changes.reach_again(GpuState.DEAD, 2)
        faults.end()
        await changes.reach(GpuState.READY)
        await gpu.stop()
    ready = changes.seen.index((GpuState.READY, True))
    over_the_death = [usable for _, usable in changes.seen[ready : ready + 4]]
    assert over_the_death == [True, True, True, True]  # ready, dead, starting, loading
    assert (GpuState.DEAD, False) in changes.seen
    assert gpu.restarts["died"] >= 2


# ---------------------------------------------------------------- recycling


async def test_a_child_whose_memory_grows_is_replaced_between_two_pictures():
    """Planned: the picture is there, the next one waits for a fresh child, nobody counts a death."""
    changes = Changes()
    async with contextlib.AsyncExitStack() as stack:
        gpu = changes.gpu = GpuProcess(load(), limits(recycle_bytes=24 * MIB), changes)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(gpu.run())
        await gpu.wait_ready()
        pid = gpu.pid
        ready = len(changes.seen) - 1
        drawings = [Drawing(gpu, "leak=32", str(number)) for number in range(5)]
        frames = await asyncio.gather(*drawings)
        assert gpu.pid != pid
        await gpu.stop()
    assert [frame.forwards for frame in frames] == [8] * 5
    assert gpu.restarts == {"recycled": 1}
    assert all(usable for _, usable in changes.seen[ready:-1])
    states = [state for state, _ in changes.seen]
    assert GpuState.DEAD not in states
    assert (
        states.count(GpuState.READY) == 6
    )  # two loads, and four pictures that were no one's last


@pytest.mark.parametrize("allowed", [0, 4 << 30])
async def test_a_child_that_grows_within_the_limit_is_kept(allowed):
    """And with no limit it is kept whatever it holds."""
    async with running(recycle_bytes=allowed) as gpu:
        pid = gpu.pid
        for _ in range(6):
            frame = await Drawing(gpu, "leak=8")
        assert frame.memory["resident"] > 48 * MIB
        assert (gpu.pid, gpu.restarts.total()) == (pid, 0)


# ---------------------------------------------------------------- too little memory


async def test_a_picture_may_be_asked_for_in_tiles(tmp_path):
    """The caller's retry after too little memory reaches the pipeline as such."""
    async with running() as gpu:
        wanted = command(f"oom_once={tmp_path / 'marks'}")
        with pytest.raises(DrawingFailedError) as caught:
            await gpu.generate(wanted, lambda *_: None, asyncio.Event())
        assert caught.value.code == "out_of_memory"
        tiled = replace(wanted, tiled=True)
        assert (await gpu.generate(tiled, lambda *_: None, asyncio.Event())).forwards == 8


def _draw(gpu, prompt, job, side):
    wanted = replace(command(prompt, job), width=side, height=side)
    return gpu.generate(wanted, lambda *_: None, asyncio.Event())


async def _run_out_of_memory(gpu, side):
    for job in "ababa":
        with pytest.raises(DrawingFailedError, match="oom"):
            await _draw(gpu, "oom", job, side)


async def test_too_little_memory_for_more_than_was_ever_drawn_is_the_requests_doing():
    """A picture that asks for too much fails by itself, in any number; the GPU goes on."""
    async with running() as gpu:
        await _draw(gpu, "x", "good", 64)
        await _run_out_of_memory(gpu, 80)
        assert (gpu.state, gpu.usable) == (GpuState.READY, True)
        assert (await _draw(gpu, "x", "good", 64)).forwards == 8
        assert gpu.restarts.total() == 0


@pytest.mark.parametrize("side", [64, 48])
async def test_too_little_memory_for_what_was_drawn_before_is_the_gpus_doing(side):
    """What was there for a picture as large is gone: the GPU is taken for broken."""
    async with running(canary_every_s=3600) as gpu:
        await _draw(gpu, "x", "good", 64)
        await _run_out_of_memory(gpu, side)
        assert (gpu.state, gpu.usable) == (GpuState.DEFUNCT, False)
