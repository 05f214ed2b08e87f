"""The GPU process at its start and its end: a model that does not load, and stops at any moment."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.gpu import process
from consumer.gpu.process import DrawingStoppedError, GpuProcess, GpuStartError, GpuState
from tests.drawing import ROOT, Drawing, gone, limits, load, running
from tests.pipelines import ready

# ---------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("wanted", "permanent", "sentence"),
    [
        (load(model="refuse"), True, "There is no such model. Choose another."),
        (load("tests.pipelines:Unlucky"), False, "The hub is away. Try again later."),
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
    assert gone(child)


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
    assert gone(pid)


async def test_stop_does_not_wait_for_the_back_off(monkeypatch):
    """A stop between two children ends the supervision at once."""
    monkeypatch.setattr(process, "BACKOFF_S", (3600.0,))
    dead = asyncio.Event()
    gpu = GpuProcess(
        load("tests.pipelines:DiesLoading"),
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
from tests.drawing import command, load

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
    assert gone(child)
