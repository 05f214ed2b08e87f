"""What the tests of the GPU process share: a process that is supervised, and pictures under way."""

import asyncio
import contextlib
import os
import select
from pathlib import Path

from consumer.gpu.process import GpuLimits, GpuProcess
from consumer.gpu.protocol import Generate, Load

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60


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


def gone(pidfd):
    """Wait for the end of a process, ours or not."""
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)
