"""The pipelines of the benches: no torch, known times, so that what is left is the service's."""

import json
import time
from pathlib import Path

from bench.photograph import photograph
from consumer.gpu.pipeline import Drawn, OnStep
from consumer.gpu.protocol import Generate, Load, Ready

WAIT_S = 0.25
WAITS = "waits.jsonl"
"""In the data folder: a line for each picture, in monotonic seconds."""


class Waiting:
    """Waits 250 ms in as many parts as there are steps and returns the photograph."""

    def load(self, command: Load, _: object) -> Ready:
        """Make the photograph once."""
        self._pixels = photograph()
        self._waits = Path(command.data_dir) / WAITS
        self._waits.parent.mkdir(parents=True, exist_ok=True)
        return Ready(
            model=command.model,
            revision="bench",
            pipeline="Waiting",
            device="cpu",
            device_name="CPU",
            backend="cpu",
            dtype="uint8",
            load_seconds=0.0,
            size_multiple=16,
            steps_per_forward_less=1,
        )

    def draw(self, command: Generate, on_step: OnStep) -> Drawn:
        """Wait, tell of each step, and note when; only the waits themselves count as work."""
        started, waited = time.monotonic(), 0.0
        for step in range(1, command.forwards + 1):
            since = time.monotonic()
            time.sleep(WAIT_S / command.forwards)
            waited += time.monotonic() - since
            on_step(step, command.forwards)
        times = {"started": started, "ended": time.monotonic(), "waited": waited}
        with self._waits.open("a") as file:
            file.write(json.dumps(times) + "\n")
        return Drawn(
            self._pixels,
            command.forwards,
            {"text_encode": 0.0, "denoise": round(waited, 6), "vae_decode": 0.0},
        )
