"""The GPU process when its child dies or hangs: told, and replaced."""

import asyncio
import os
import signal

import pytest

from consumer.gpu import child, process
from consumer.gpu.process import GpuDiedError, GpuTimeoutError
from tests.drawing import Drawing, gone, running


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
        assert gone(hung)
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
        assert gone(hung)
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
        assert gone(frozen)
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
