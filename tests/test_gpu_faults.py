"""Real GPU children under random faults."""

import asyncio
import contextlib
import os
import signal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.gpu.process import Frame, GpuDiedError, GpuError, GpuLimits, GpuProcess
from consumer.gpu.protocol import Generate
from tests.drawing import load
from tests.stage import FORWARDS

FAULTS = st.sampled_from(
    [
        "x",
        "x",
        "boom",
        "oom",
        "nan",
        "flat",
        "exit",
        "lost",
        "hang",
        "stuck_stage=vae",
        "leak=40",
    ]
)
STOPS = st.sampled_from(["never", "never", "at once", "at the first step"])
KILLS = st.booleans()


@given(jobs=st.lists(st.tuples(FAULTS, STOPS, KILLS), min_size=2, max_size=6))
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_real_children_under_faults(jobs):
    """Whatever befalls them, every call ends in our words, and then a picture can be drawn."""
    asyncio.run(_under_faults(jobs))


async def _under_faults(jobs):
    limits = GpuLimits(
        job_timeout_s=60, step_floor_s=0.3, canary_every_s=0.05, recycle_bytes=20 << 20
    )
    gpu = GpuProcess(load(), limits)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        await gpu.wait_ready()
        # Measured, so that a hang is seen soon.
        await gpu.generate(_command("x", "first"), _ignore, asyncio.Event())
        ends = await asyncio.gather(
            *(_one(gpu, number, *job) for number, job in enumerate(jobs)),
            return_exceptions=True,
        )
        assert all(isinstance(end, Frame | GpuError) for end in ends), ends
        assert (await _draw_after_all(gpu)).forwards == FORWARDS
        await gpu.stop()


async def _draw_after_all(gpu):
    """A picture; a child that was killed at the end of the one before may take one with it."""
    last = _command("x", "last")
    try:
        return await gpu.generate(last, _ignore, asyncio.Event())
    except GpuDiedError:
        return await gpu.generate(last, _ignore, asyncio.Event())


async def _one(gpu, number, fault, stopped, killed):
    stop = asyncio.Event()

    def on_step(step, _):
        if killed and step == 2:
            with contextlib.suppress(ProcessLookupError):
                os.kill(gpu.pid, signal.SIGKILL)
        if stopped == "at the first step":
            stop.set()

    if stopped == "at once":
        asyncio.get_running_loop().call_soon(stop.set)
    return await gpu.generate(_command(fault, str(number)), on_step, stop)


def _command(prompt, job_id):
    return Generate(job_id, prompt, 64, 48, 7, FORWARDS, 0.0)


def _ignore(*_):
    pass
