"""The GPU process: a real child, scripted, that draws what it is told, and stops when it is told."""

import asyncio
from itertools import product

import pytest

from consumer.gpu import process
from consumer.gpu.process import (
    DrawingFailedError,
    DrawingStoppedError,
    GpuDiedError,
    GpuProcess,
    GpuState,
)
from tests.drawing import Drawing, command, ignore, limits, load, running
from tests.pipelines import (
    Endless,  # noqa: F401 - the tests of the client name it here
    gradient,
)

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
    async with running(load("tests.pipelines:Endless")) as gpu:
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
    gpu = GpuProcess(load("tests.pipelines:DiesLoading"), limits())
    async with asyncio.TaskGroup() as tasks:
        supervisor = tasks.create_task(gpu.run())
        drawing = Drawing(gpu)
        drawing.stop.set()
        with pytest.raises(DrawingStoppedError):
            await drawing
        supervisor.cancel()


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
