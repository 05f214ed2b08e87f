"""The check of an accelerator: our GPU child with the built-in and the real-size model, measured.

For each model and each of the seven sizes: seconds a step, stages, peak memory, forwards, numbers
that are finite, the same pixels twice; then a cancel within a step and a kill -9 of the child.
Needs Python, torch, transformers, diffusers and numpy, nothing else, and runs from a checkout.
"""

import argparse
import asyncio
import hashlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.report import print_table, surroundings, write
from consumer.gpu.process import (
    DrawingStoppedError,
    Frame,
    GpuDefunctError,
    GpuDiedError,
    GpuError,
    GpuLimits,
    GpuProcess,
    GpuStartError,
)
from consumer.gpu.protocol import Generate, Load

SIZES = (
    (512, 512),
    (768, 768),
    (1024, 1024),
    (1280, 720),
    (720, 1280),
    (1024, 768),
    (768, 1024),
)
"""(width, height), as in the contract, which needs packages that such a machine may not have."""

FORWARDS = 8
PROMPT = "A sunset over mountains"
JOB_TIMEOUT_S = 900.0
"""A first VAE decode at a new size can search kernels for minutes on ROCm."""
SLACK_S = 0.25
"""Of a cancel, beyond the step that was under way."""

EXIT_FAILED, EXIT_NOT_RUN = 1, 3

MODELS = {
    "builtin": ("consumer.gpu.diffusion:DiffusionPipeline", "builtin"),
    "real": ("bench.real_size:RealSizePipeline", "Z-Image-Turbo, random weights"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One size of one model; seconds are medians after the first picture."""

    size: str
    first_s: float
    """From the command to the frame, the first time at this size."""
    total_s: float
    step_s: float
    text_encode_s: float
    denoise_s: float
    vae_decode_s: float
    forwards: int
    peak_gib: float | None
    """Allocated by torch at most; None on a CPU."""
    same_pixels: bool
    """The same seed gave the same pixels each time."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and the seconds from the command to its frame."""

    frame: Frame
    seconds: float

    @property
    def sha256(self) -> str:
        """Of the pixels."""
        return hashlib.sha256(self.frame.pixels).hexdigest()


class Check:
    """One model in one child, and what was found wrong with it."""

    def __init__(self, gpu: GpuProcess, repeats: int) -> None:
        self._gpu = gpu
        self._repeats = repeats
        self._drawn = 0
        self.problems: list[str] = []

    async def sizes(self) -> list[Row]:
        """Draw at every size; a size that fails is a problem, not the end."""
        rows = []
        for width, height in SIZES:
            try:
                rows.append(await self._size(width, height))
            except GpuError as error:
                self._complain(f"{width}x{height}: {type(error).__name__}: {error}")
        return rows

    async def cancel(self) -> dict[str, float]:
        """Cancel a 1024x1024 picture after its second step; return how long it took to stop."""
        whole = await self._draw(1024, 1024)
        step_s = whole.frame.seconds["denoise"] / FORWARDS
        stop, asked = asyncio.Event(), [0.0]

        def on_step(step: int, _: int) -> None:
            if step == 2:
                asked[0] = time.monotonic()
                stop.set()

        try:
            await self._draw(1024, 1024, on_step, stop)
            self._complain("the picture was finished in spite of its cancel")
        except DrawingStoppedError:
            pass
        stopped_s = time.monotonic() - asked[0]
        if stopped_s > step_s + SLACK_S:
            self._complain(f"a cancel took {stopped_s:.2f} s; a step takes {step_s:.2f} s")
        if (await self._draw(1024, 1024)).sha256 != whole.sha256:
            self._complain("after a cancel the same seed gives other pixels")
        return {"stopped_s": round(stopped_s, 3), "step_s": round(step_s, 3)}

    async def kill(self) -> dict[str, float]:
        """Kill the child within a picture; return how long the next picture took to come."""
        before = await self._draw(512, 512)

        def on_step(step: int, _: int) -> None:
            if step == 2 and self._gpu.pid:
                os.kill(self._gpu.pid, signal.SIGKILL)

        killed = time.monotonic()
        try:
            await self._draw(512, 512, on_step)
            self._complain("the picture was finished in spite of the kill")
        except GpuDiedError:
            pass
        if (await self._draw(512, 512)).sha256 != before.sha256:
            self._complain("a new child draws other pixels for the same seed")
        return {"picture_after_s": round(time.monotonic() - killed, 3)}

    async def _size(self, width: int, height: int) -> Row:
        first = await self._draw(width, height)
        later = [await self._draw(width, height) for _ in range(self._repeats)]
        same = {first.sha256} == {each.sha256 for each in later}
        if not same:
            self._complain(f"{width}x{height}: the same seed gave different pixels")

        def median(value: Callable[[Drawing], float]) -> float:
            return round(statistics.median(value(each) for each in later), 4)

        peak = max(each.frame.memory.get("peak", 0) for each in later)
        return Row(
            size=f"{width}x{height}",
            first_s=round(first.seconds, 3),
            total_s=median(lambda each: each.seconds),
            step_s=median(lambda each: each.frame.seconds["denoise"] / FORWARDS),
            text_encode_s=median(lambda each: each.frame.seconds["text_encode"]),
            denoise_s=median(lambda each: each.frame.seconds["denoise"]),
            vae_decode_s=median(lambda each: each.frame.seconds["vae_decode"]),
            forwards=first.frame.forwards,
            peak_gib=round(peak / 2**30, 2) if peak else None,
            same_pixels=same,
        )

    async def _draw(
        self,
        width: int,
        height: int,
        on_step: Callable[[int, int], None] = lambda *_: None,
        stop: asyncio.Event | None = None,
    ) -> Drawing:
        """Draw with one seed. The child itself refuses what is not finite, or one flat colour."""
        self._drawn += 1
        command = Generate(f"check-{self._drawn}", PROMPT, width, height, 1, FORWARDS, 0.0)
        started = time.monotonic()
        frame = await self._gpu.generate(command, on_step, stop or asyncio.Event())
        if frame.forwards != FORWARDS:
            self._complain(f"{width}x{height}: {frame.forwards} forwards, not {FORWARDS}")
        return Drawing(frame, time.monotonic() - started)

    def _complain(self, problem: str) -> None:
        print(f"problem: {problem}", file=sys.stderr)
        self.problems.append(problem)


async def check_model(name: str, device: str, repeats: int) -> dict[str, Any]:
    """Return everything measured of a model."""
    pipeline, model = MODELS[name]
    figures: dict[str, Any] = {"model": model}
    with tempfile.TemporaryDirectory(prefix="imagegen-check-") as folder:
        try:
            async with running(Load(pipeline, model, None, device, "fast", folder)) as gpu:
                figures |= await measure(gpu, repeats)
        except* (GpuStartError, GpuDefunctError, GpuError, TimeoutError) as failed:
            problem = "; ".join(str(error) for error in failed.exceptions)
            print(f"problem: {problem}", file=sys.stderr)
            figures["problems"] = [problem]
    return figures


async def measure(gpu: GpuProcess, repeats: int) -> dict[str, Any]:
    """Run the whole check on a child and print what came out."""
    async with asyncio.timeout(JOB_TIMEOUT_S):
        ready = await gpu.wait_ready()
    check = Check(gpu, repeats)
    rows = await check.sizes()
    print_rows(f"{ready.model} on {ready.device_name} ({ready.backend}, {ready.dtype})", rows)
    cancel, kill = await check.cancel(), await check.kill()
    print(
        f"\na cancel stopped the picture in {cancel['stopped_s']} s (a step: {cancel['step_s']})"
        f"; {kill['picture_after_s']} s after a kill -9 the next picture was there"
    )
    return {
        "ready": asdict(ready),
        "sizes": [asdict(row) for row in rows],
        "cancel": cancel,
        "kill": kill,
        "problems": check.problems,
    }


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[GpuProcess]:
    """Keep a GPU child alive while the caller works with it."""
    limits = GpuLimits(job_timeout_s=JOB_TIMEOUT_S)
    gpu = GpuProcess(load, limits, lambda note: print(note) if note else None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gpu.run())
        try:
            yield gpu
        finally:
            await gpu.stop()


def print_rows(title: str, rows: list[Row]) -> None:
    """Print the table of one model."""
    print_table(
        title,
        ("size", "first s", "s", "s a step", "text", "denoise", "VAE", "forwards", "peak GiB"),
        [
            [
                row.size,
                f"{row.first_s:.2f}",
                f"{row.total_s:.2f}",
                f"{row.step_s:.3f}",
                f"{row.text_encode_s:.3f}",
                f"{row.denoise_s:.2f}",
                f"{row.vae_decode_s:.2f}",
                row.forwards,
                row.peak_gib or "-",
            ]
            for row in rows
        ],
    )


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="bench.gpu_check", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (AMD too)")
    parser.add_argument("--only", choices=MODELS, help="one of the two models")
    parser.add_argument(
        "--repeats", type=int, default=3, help="pictures after the first, a size"
    )
    parser.add_argument("--output", type=Path, help="folder for the JSON; build/bench")
    return parser.parse_args()


def main() -> int:
    """Run it. Returns the exit code: 0, 1 for a problem, 3 where there is nothing to check."""
    asked = arguments()
    on_cpu = asked.device == "cpu"
    if (on_cpu and asked.only != "builtin") or not (on_cpu or torch.cuda.is_available()):
        print("not run: no accelerator (the built-in model: --device cpu --only builtin)")
        return EXIT_NOT_RUN
    figures = {
        name: asyncio.run(check_model(name, asked.device, asked.repeats))
        for name in ([asked.only] if asked.only else MODELS)
    }
    write(
        "gpu_check",
        {**surroundings("torch", "diffusers", "transformers"), "models": figures},
        asked.output,
    )
    problems = [problem for each in figures.values() for problem in each["problems"]]
    print(f"{len(problems)} problems")
    return EXIT_FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main())
