"""The pipelines of the benches: no torch, known times, so that what is left is the service's."""

import json
import time
from pathlib import Path
from typing import Any

from bench.photograph import photograph
from consumer.gpu.pipeline import Drawn, OnStep
from consumer.gpu.protocol import Generate, Load, Ready

WAITS = "waits.jsonl"
"""In the data folder: a line for each picture, in monotonic seconds."""


def ready(command: Load, pipeline: str) -> Ready:
    """Return the first word of a pipeline that loads nothing and counts like Z-Image."""
    return Ready(
        model=command.model,
        revision="bench",
        pipeline=pipeline,
        device="cpu",
        device_name="CPU",
        backend="cpu",
        dtype="uint8",
        load_seconds=0.0,
        steps_per_forward_less=1,
    )


def record(command: Load, name: str) -> Path:
    """Return where a record of this name is kept, in the service's data folder."""
    path = Path(command.data_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def note(path: Path, facts: dict[str, Any]) -> None:
    """Add a line to a record; whole or, after a kill, cut short, but never mixed with another."""
    with path.open("a") as file:
        file.write(json.dumps(facts) + "\n")


class Waiting:
    """Waits 250 ms in as many parts as there are steps and returns the photograph."""

    wait_s = 0.25

    def load(self, command: Load, _: object) -> Ready:
        """Make the photograph once."""
        self._pixels = photograph()
        self._waits = record(command, WAITS)
        return ready(command, "Waiting")

    def draw(self, command: Generate, on_step: OnStep) -> Drawn:
        """Wait, tell of each step, and note when; only the waits themselves count as work."""
        started, waited = time.monotonic(), 0.0
        for step in range(1, command.forwards + 1):
            since = time.monotonic()
            time.sleep(self.wait_s / command.forwards)
            waited += time.monotonic() - since
            on_step(step, command.forwards)
        times = {"started": started, "ended": time.monotonic(), "waited": waited}
        note(self._waits, times)
        return Drawn(
            self._pixels,
            command.forwards,
            {"text_encode": 0.0, "denoise": round(waited, 6), "vae_decode": 0.0},
        )


class Simulated(Waiting):
    """A GPU of 2 s a picture: what a large card takes for 1024x1024 in 8 forwards."""

    wait_s = 2.0
