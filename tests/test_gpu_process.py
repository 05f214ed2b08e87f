"""The GPU process: a real child, scripted, that is watched, killed and replaced."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from consumer.gpu import child, process
from consumer.gpu.pipeline import LoadError
from consumer.gpu.process import (
    DrawingFailedError,
    DrawingStoppedError,
    GpuDiedError,
    GpuLimits,
    GpuProcess,
    GpuStartError,
    GpuState,
    GpuTimeoutError,
)
from consumer.gpu.protocol import Generate, Load
from tests.pipelines import Scripted, gradient, ready

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60


class Endless(Scripted):
    """Goes on until it is told to stop."""

    def draw(self, command, on_step):
        while True:
            time.sleep(0.001)  # what a step costs a GPU
            on_step(1, command.forwards)


class DiesLoading:
    """Is killed while it loads, as by the kernel for want of memory."""

    def load(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)


class Unlucky:
    """Cannot load today."""

    def load(self, *_):
        raise LoadError("The hub is away. Try again later.", permanent=False)


def load(pipeline="tests.pipelines:Scripted", model="scripted"):
    return Load(pipeline, model, None, "cpu", "auto", "/nowhere")


def command(prompt="x", job_id="job-1"):
    return Generate(job_id, prompt, 64, 48, 7, 8, 0.0)


def limits(**changes):
    return GpuLimits(**{"job_timeout_s": PATIENCE_S, **changes})


def ignore(step, steps):
    pass


class Drawing:
    """One picture under way, and the steps that were told of it."""

    def __init__(self, gpu, prompt="x", job_id="job-1", log=None, on_start=lambda _: None):
        self.steps = [] if log is None else log
        self.stop = asyncio.Event()
        self.first_step = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(
            gpu.generate(
                command(prompt, job_id), self._on_step, self.stop, lambda: on_start(job_id)
            )
        )
        self._id = job_id

    def _on_step(self, step, steps):
        self.steps.append((self._id, step, steps))
        self.first_step.set()

    def __await__(self):
        return self.task.__await__()


@contextlib.asynccontextmanager
async def running(load=load(), **options):  # noqa: B008 - a frozen value
    """A GPU process that is supervised and ready; stopped at the end."""
    on_change = options.pop("on_change", lambda _: None)
    gpu = GpuProcess(load, limits(**options), on_change)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await gpu.wait_ready()
        yield gpu
        await gpu.stop()


# ---------------------------------------------------------------- draw


async def test_a_picture_comes_back_as_it_was_drawn():
    """The frame has the very pixels, the count of forwards and the stages, for all the noise."""
    async with running() as gpu:  # Scripted prints to standard output
        frame = await gpu.generate(command(), ignore, asyncio.Event())
    assert (frame.width, frame.height, frame.forwards) == (64, 48, 8)
    assert bytes(frame.pixels) == gradient(64, 48, 7).tobytes()
    assert set(frame.seconds) == {"text_encode", "denoise", "vae_decode"}


async def test_every_step_is_told():
    """The caller hears of each step, in order, before the picture is there."""
    async with running() as gpu:
        drawing = Drawing(gpu)
        await drawing
    assert drawing.steps == [("job-1", step, 8) for step in range(1, 9)]


async def test_the_start_is_told_when_the_child_has_it(gate):
    """Not while the picture waits for its turn; and not at all if it never has one."""
    started = []
    async with running() as gpu:
        first = Drawing(gpu, f"wait={gate.path}", "first", on_start=started.append)
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second", on_start=started.append)
        third = Drawing(gpu, "x", "third", on_start=started.append)
        third.stop.set()
        with pytest.raises(DrawingStoppedError):
            await third
        assert started == ["first"]
        await asyncio.to_thread(gate.reached)
        gate.open()
        await asyncio.gather(first, second)
    assert started == ["first", "second"]


async def test_what_a_try_cost_the_gpu_is_told(gate):
    """Seconds of its turn, with the picture and with what ends it; none where it had no turn."""
    async with running() as gpu:
        frame = await Drawing(gpu, "draw=0.2")
        assert frame.gpu_seconds >= 0.2
        for prompt, error in (("draw=0.2 boom", DrawingFailedError), ("exit", GpuDiedError)):
            with pytest.raises(error) as caught:
                await Drawing(gpu, prompt)
            assert caught.value.gpu_seconds > 0
        first = Drawing(gpu, f"wait={gate.path}", "first")
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second")
        second.stop.set()
        with pytest.raises(DrawingStoppedError) as caught:
            await second
        assert caught.value.gpu_seconds == 0.0
        first.stop.set()
        await asyncio.to_thread(gate.reached)
        gate.open()
        with pytest.raises(DrawingStoppedError) as caught:
            await first
        assert caught.value.gpu_seconds > 0


async def test_the_pace_is_measured():
    """After a picture its size has its times: a step's, and a whole picture's."""
    async with running() as gpu:
        assert gpu.pace.step_s(64, 48) is None
        await Drawing(gpu, "draw=0.4")
        assert gpu.pace.step_s(64, 48) >= 0.05
        assert gpu.pace.picture_s(64, 48, 8) >= 0.4


async def test_two_pictures_are_drawn_one_after_the_other(gate):
    """A pipeline is never entered twice: the second begins when the first is drawn."""
    log = []
    async with running() as gpu:
        first = Drawing(gpu, f"wait={gate.path}", "first", log)
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second", log)
        await asyncio.to_thread(gate.reached)
        gate.open()
        await asyncio.gather(first, second)
    assert [job_id for job_id, _, _ in log] == ["first"] * 8 + ["second"] * 8


async def test_it_is_busy_while_it_draws(gate):
    """The state tells whether there is a picture in hand."""
    async with running() as gpu:
        assert gpu.state is GpuState.READY
        drawing = Drawing(gpu, f"wait={gate.path}")
        await drawing.first_step.wait()
        assert gpu.state is GpuState.BUSY
        await asyncio.to_thread(gate.reached)
        gate.open()
        await drawing
        assert gpu.state is GpuState.READY


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("oom", "out_of_memory"),
        ("nan", "nan_output"),
        ("long", "invalid_request"),
        ("boom", "internal"),
        ("flat", "nan_output"),
    ],
)
async def test_a_picture_that_fails_has_its_code_and_the_child_goes_on(word, code):
    """What the child can tell of itself does not cost the child."""
    async with running() as gpu:
        pid = gpu.pid
        with pytest.raises(DrawingFailedError, match=f"scripted {word}|flat colour") as caught:
            await Drawing(gpu, word)
        assert caught.value.code == code
        await Drawing(gpu)
        assert (gpu.pid, gpu.restarts.total()) == (pid, 0)


# ---------------------------------------------------------------- cancel


async def test_a_picture_is_called_off_while_it_waits_for_its_turn(gate):
    """A stop ends the wait at once; the picture before it is not touched."""
    async with running() as gpu:
        first = Drawing(gpu, f"wait={gate.path}", "first")
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second")
        second.stop.set()
        with pytest.raises(DrawingStoppedError):
            await second
        assert not first.task.done()
        await asyncio.to_thread(gate.reached)
        gate.open()
        assert (await first).forwards == 8
    assert second.steps == []


async def test_a_picture_is_called_off_while_it_is_drawn():
    """A stop reaches the child at its next step; the child goes on with the next picture."""
    async with running(load("tests.test_gpu_process:Endless")) as gpu:
        pid = gpu.pid
        for _ in range(2):
            drawing = Drawing(gpu)
            await drawing.first_step.wait()
            drawing.stop.set()
            with pytest.raises(DrawingStoppedError):
                await drawing
            assert (gpu.pid, gpu.state) == (pid, GpuState.READY)


async def test_a_caller_that_is_cancelled_leaves_the_child_to_the_next(gate):
    """A picture that nobody waits for any more is stopped; the next is drawn by the same child."""
    async with running() as gpu:
        pid = gpu.pid
        drawing = Drawing(gpu, f"wait={gate.path}")
        await drawing.first_step.wait()
        drawing.task.cancel()
        following = Drawing(gpu, "x", "following")
        await asyncio.to_thread(gate.reached)
        gate.open()
        assert (await following).forwards == 8
        with pytest.raises(asyncio.CancelledError):
            await drawing
        assert (gpu.pid, gpu.state) == (pid, GpuState.READY)
        assert len(drawing.steps) < 8


async def test_a_caller_that_is_cancelled_in_the_line_leaves_it(gate):
    """It is passed over when its turn would come."""
    async with running() as gpu:
        first = Drawing(gpu, f"wait={gate.path}", "first")
        await first.first_step.wait()
        second, third = Drawing(gpu, "x", "second"), Drawing(gpu, "x", "third")
        await asyncio.sleep(0)  # they stand in the line
        second.task.cancel()
        await asyncio.to_thread(gate.reached)
        gate.open()
        assert (await third).forwards == 8
        assert second.task.cancelled()
        assert second.steps == []


async def test_a_stop_before_the_call_costs_no_turn():
    """What is stopped already is not even waited with."""
    stop = asyncio.Event()
    stop.set()
    gpu = GpuProcess(load(), limits())
    with pytest.raises(DrawingStoppedError) as caught:
        await gpu.generate(command(), ignore, stop)
    assert caught.value.gpu_seconds == 0.0


async def test_a_picture_is_called_off_while_there_is_no_child(monkeypatch):
    """A stop ends the wait for a model that does not come."""
    monkeypatch.setattr(process, "BACKOFF_S", (3600.0,))
    gpu = GpuProcess(load("tests.test_gpu_process:DiesLoading"), limits())
    async with asyncio.TaskGroup() as tasks:
        supervisor = tasks.create_task(gpu.run())
        drawing = Drawing(gpu)
        drawing.stop.set()
        with pytest.raises(DrawingStoppedError):
            await drawing
        supervisor.cancel()


# ---------------------------------------------------------------- deaths


async def test_a_killed_child_is_told_and_replaced(gate):
    """SIGKILL in a picture: GpuDiedError for that one, and the next picture is drawn."""
    async with running() as gpu:
        pid = gpu.pid
        drawing = Drawing(gpu, f"wait={gate.path}")
        await drawing.first_step.wait()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(GpuDiedError, match="code -9"):
            await drawing
        assert (await Drawing(gpu)).forwards == 8
        assert gpu.pid != pid
        assert gpu.restarts == {"died": 1}


async def test_a_child_that_leaves_in_a_picture_is_told_and_replaced():
    """A pipeline that ends its process is a death like any other."""
    async with running() as gpu:
        with pytest.raises(GpuDiedError, match="code 3"):
            await Drawing(gpu, "exit")
        assert (await Drawing(gpu)).forwards == 8


async def test_a_killed_idle_child_is_replaced_unasked():
    """A death between two pictures costs nobody a picture."""
    changes = asyncio.Queue()
    async with running(on_change=changes.put_nowait) as gpu:
        pid = gpu.pid
        os.kill(pid, signal.SIGKILL)
        while "ended with code -9" not in await changes.get():
            pass
        assert (await Drawing(gpu)).forwards == 8
        assert gpu.pid != pid


async def test_a_hang_is_killed_and_told():
    """Beyond the hard limit the child is killed: GpuTimeoutError, and a new child."""
    async with running(job_timeout_s=0.5) as gpu:
        pid = gpu.pid
        hung = os.pidfd_open(pid)
        with pytest.raises(GpuTimeoutError, match=r"no picture within 0\.5 s"):
            await Drawing(gpu, "hang")
        assert _gone(hung)
        assert (await Drawing(gpu)).forwards == 8
        assert gpu.pid != pid


@pytest.mark.parametrize("stage", ["text_encode", "denoise", "vae_decode"])
async def test_a_stage_that_outlives_its_measure_is_a_hang(stage):
    """In whatever stage it falls silent, a child is killed long before the hard limit, and replaced."""
    async with running(step_floor_s=0.5) as gpu:
        await Drawing(gpu)  # measures
        hung = os.pidfd_open(gpu.pid)
        with pytest.raises(
            GpuTimeoutError, match=f"nothing heard for 0.5 s in {stage}"
        ) as caught:
            await Drawing(gpu, f"stuck_stage={stage}")
        assert _gone(hung)
        assert caught.value.gpu_seconds >= 0.5
        await Drawing(gpu)
        assert gpu.restarts == {"hung": 1}


async def test_slow_steps_are_no_hang():
    """Each step within its limit: the picture may take longer than any of them."""
    async with running(step_floor_s=1.0) as gpu:
        await Drawing(gpu)
        assert (await Drawing(gpu, "draw=1.6")).gpu_seconds >= 1.6
        assert gpu.restarts.total() == 0


async def test_a_child_that_does_not_heed_sigterm_is_killed(monkeypatch):
    """A frozen process neither leaves nor terminates: SIGKILL ends it."""
    monkeypatch.setattr(child, "TERMINATE_GRACE_S", 0.1)
    monkeypatch.setattr(child, "LEAVE_GRACE_S", 0.1)
    async with running(step_floor_s=0.2) as gpu:
        await Drawing(gpu)
        frozen = os.pidfd_open(gpu.pid)
        drawing = Drawing(gpu, "slow")
        await drawing.first_step.wait()
        os.kill(gpu.pid, signal.SIGSTOP)
        with pytest.raises(GpuTimeoutError, match="nothing heard for"):
            await drawing
        assert _gone(frozen)
        assert (await Drawing(gpu)).forwards == 8


async def test_a_process_that_cannot_be_had_is_tried_again(monkeypatch):
    """Where the machine has no process for us just now, the next try comes with the back-off."""
    tries, spawn = [], process.spawn

    async def refuse_once(*arguments):
        tries.append(arguments)
        if len(tries) == 1:
            raise BlockingIOError("Resource temporarily unavailable")
        return await spawn(*arguments)

    monkeypatch.setattr(process, "spawn", refuse_once)
    async with running() as gpu:
        assert (await Drawing(gpu)).forwards == 8
        assert gpu.restarts == {"died": 1}


# ---------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("wanted", "permanent", "sentence"),
    [
        (load(model="refuse"), True, "There is no such model. Choose another."),
        (load("tests.test_gpu_process:Unlucky"), False, "The hub is away. Try again later."),
        (load("tests.pipelines:Nothing"), True, "There is no pipeline tests.pipelines:Nothing"),
        (load("no.such.module:X"), True, "There is no pipeline no.such.module:X"),
    ],
    ids=["refused", "unlucky", "no class", "no module"],
)
async def test_a_model_that_cannot_be_loaded_ends_the_start(wanted, permanent, sentence):
    """The child's sentence comes up as GpuStartError, which knows whether a restart may help."""
    gpu = GpuProcess(wanted, limits())
    with pytest.raises(GpuStartError, match=sentence) as caught:
        await gpu.run()
    assert caught.value.permanent is permanent
    await gpu.stop()


# ---------------------------------------------------------------- stop


async def test_stop_ends_the_child():
    """After a stop nothing of the GPU is held."""
    async with running() as gpu:
        child = os.pidfd_open(gpu.pid)
    assert gpu.state is GpuState.STOPPED
    assert _gone(child)


async def test_stop_ends_every_wait(gate):
    """The picture in the child and those in the line are told; so is who comes too late."""
    async with running() as gpu:
        first = Drawing(gpu, f"wait={gate.path}", "first")
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second")
        await asyncio.sleep(0)  # it stands in the line
        await gpu.stop()
        for drawing in (first, second, Drawing(gpu, "x", "third")):
            with pytest.raises(DrawingStoppedError):
                await drawing


async def test_a_supervisor_that_is_cancelled_ends_every_wait(gate):
    """Nobody waits for a child that nobody replaces; and no job is blamed for it."""
    gpu = GpuProcess(load(), limits())
    async with asyncio.TaskGroup() as tasks:
        supervisor = tasks.create_task(gpu.run())
        await gpu.wait_ready()
        pid = os.pidfd_open(gpu.pid)
        first = Drawing(gpu, f"wait={gate.path}", "first")
        await first.first_step.wait()
        second = Drawing(gpu, "x", "second")
        await asyncio.sleep(0)  # it stands in the line
        supervisor.cancel()
        for drawing in (first, second):
            with pytest.raises(DrawingStoppedError):
                await drawing
    assert gpu.state is GpuState.STOPPED
    assert _gone(pid)


async def test_stop_does_not_wait_for_the_back_off(monkeypatch):
    """A stop between two children ends the supervision at once."""
    monkeypatch.setattr(process, "BACKOFF_S", (3600.0,))
    dead = asyncio.Event()
    gpu = GpuProcess(
        load("tests.test_gpu_process:DiesLoading"),
        limits(),
        lambda _: gpu.state is GpuState.DEAD and dead.set(),
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await dead.wait()
        await gpu.stop()


async def test_stop_twice_is_harmless():
    """The second stop finds nothing to do, also while the first is under way."""
    async with running() as gpu:
        await asyncio.gather(gpu.stop(), gpu.stop())
        await gpu.stop()


async def test_stop_before_a_start_is_harmless():
    """What was never started can be stopped, and does not start afterwards."""
    gpu = GpuProcess(load(), limits())
    await gpu.stop()
    await gpu.run()
    assert gpu.pid is None


@pytest.mark.parametrize("ticks", range(1, 9))
async def test_stop_while_the_child_is_being_started_is_harmless(ticks):
    """However far the start has come, a stop ends it, and leaves no child behind."""
    gpu = GpuProcess(load(), limits())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        for _ in range(ticks):
            await asyncio.sleep(0)  # one turn of the event loop, not a wait
        await gpu.stop()
    assert gpu.state is GpuState.STOPPED
    assert gpu.pid is None or not _exists(gpu.pid)


async def test_stop_while_no_process_can_be_had_is_harmless(monkeypatch):
    """A start that fails after the stop is not tried again, and counted nowhere."""
    asked, refuse = asyncio.Event(), asyncio.Event()

    async def refuse_late(*_):
        asked.set()
        await refuse.wait()
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(process, "spawn", refuse_late)
    gpu = GpuProcess(load(), limits())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await asked.wait()
        await gpu.stop()
        refuse.set()
    assert gpu.state is GpuState.STOPPED
    assert gpu.restarts.total() == 0


async def test_stop_while_the_model_is_being_loaded_is_harmless():
    """A stop that meets the child's first words ends it like any other."""
    loading = asyncio.Event()
    gpu = GpuProcess(load(), limits(), lambda _: loading.set())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await loading.wait()
        await gpu.stop()
    assert gpu.state is GpuState.STOPPED


def _exists(pid):
    return Path(f"/proc/{pid}").exists()


def test_the_last_words_of_a_child_do_not_undo_a_stop():
    """A Ready that is read after the stop changes nothing."""
    gpu = GpuProcess(load(), limits())
    gpu.state = GpuState.STOPPED
    gpu._became_ready(ready(load()))
    assert gpu.state is GpuState.STOPPED


PARENT = """
import asyncio
from consumer.gpu.process import GpuLimits, GpuProcess
from tests.test_gpu_process import command, load

async def main():
    gpu = GpuProcess(load(), GpuLimits(job_timeout_s=3600))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await gpu.wait_ready()
        print(gpu.pid, flush=True)
        await gpu.generate(command("hang"), lambda *_: print("drawing", flush=True), asyncio.Event())

asyncio.run(main())
"""


def test_a_child_without_its_parent_leaves_by_itself():
    """A service that is killed leaves no process on the GPU, not even one that hangs."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        words = iter(parent.stdout.readline, "")
        pid = next(int(word) for word in words if word.strip().isdigit())
        child = os.pidfd_open(pid)
        assert "drawing\n" in words
        parent.kill()
    assert _gone(child)


def _gone(pidfd):
    """Wait for the end of a process, ours or not."""
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(("state", "to"), list(product(GpuState, GpuState)))
def test_only_the_moves_of_the_table_are_made(state, to):
    """A legal move is made and told; any other raises, changes nothing and tells nobody."""
    told = []
    gpu = GpuProcess(load(), limits(), told.append)
    gpu.state = state
    if to in process.TRANSITIONS[state]:
        gpu._move(to, "moved")
        assert (gpu.state, told) == (to, ["moved"])
    else:
        with pytest.raises(RuntimeError, match=f"{state} -> {to}"):
            gpu._move(to)
        assert (gpu.state, told) == (state, [])


def test_every_state_has_its_row_and_can_be_stopped():
    """From anywhere a stop is legal; from a stop nothing is."""
    assert set(process.TRANSITIONS) == set(GpuState)
    for state, targets in process.TRANSITIONS.items():
        assert (GpuState.STOPPED in targets) == (state is not GpuState.STOPPED)
    assert not process.TRANSITIONS[GpuState.STOPPED]
