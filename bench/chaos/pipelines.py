"""The pipeline of the fault bench: draws what the seed says in the time the prompt says, and records its work."""

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.pipelines import note, ready, record
from consumer.gpu.pipeline import Drawn, OnStep, OutOfMemoryError, PromptTooLongError
from consumer.gpu.protocol import Generate, Load, Ready

WORK = "work.jsonl"
"""In the service's data folder: a line for each start, step and end of a picture."""
HANG_MARK_S = 0.1


class Chaotic:
    """Words of the prompt: `job=ID`, `draw=SECONDS`, `noise`, `long`, `die`, `die_once=PATH`, `hang_once=PATH`, `oom_once=PATH`.

    With `..._once` it happens to the first who comes and leaves the file behind.
    """

    def load(self, command: Load, _: object) -> Ready:
        """Open the record."""
        self._record = record(command, WORK)
        return ready(command, "Chaotic")

    def draw(self, command: Generate, on_step: OnStep) -> Drawn:
        """Take the time asked for in equal steps; each is on record before it is told."""
        words = dict(word.partition("=")[::2] for word in command.prompt.split())
        run = f"{os.getpid()}-{time.monotonic_ns()}"
        if "long" in words:
            raise PromptTooLongError("scripted: too many tokens")
        step_s = float(words.get("draw", "0")) / command.forwards
        self._note(words, run, "start")
        for step in range(1, command.forwards + 1):
            if step == 2:
                self._act(words, run)
            time.sleep(step_s)
            self._note(words, run, "step")
            on_step(step, command.forwards)
        self._note(words, run, "end")
        paint = noise if "noise" in words else gradient
        return Drawn(
            paint(command.width, command.height, command.seed),
            command.forwards,
            {"text_encode": 0.0, "denoise": step_s * command.forwards, "vae_decode": 0.0},
        )

    def _act(self, words: dict[str, str], run: str) -> None:
        if "die" in words or _first(words, "die_once"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _first(words, "oom_once"):
            raise OutOfMemoryError("scripted: too little memory")
        while "hang" in words or _first(words, "hang_once"):
            words["hang"] = ""
            time.sleep(HANG_MARK_S)
            self._note(words, run, "still")

    def _note(self, words: dict[str, str], run: str, what: str) -> None:
        at = datetime.now(tz=UTC).timestamp()
        note(self._record, {"job": words.get("job", ""), "run": run, "what": what, "at": at})


def _first(words: dict[str, str], word: str) -> bool:
    """Tell whether this word's file is not there yet, and leave it behind."""
    if word not in words:
        return False
    try:
        Path(words[word]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def gradient(width: int, height: int, seed: int) -> np.ndarray:
    """H x W x 3, uint8: another picture for each of the first 2^24 seeds, and small as a PNG."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = [seed & 255, seed >> 8 & 255, seed >> 16 & 255]
    pixels[:, :, 0] += np.arange(width, dtype=np.uint8)[None, :]
    return pixels


def noise(width: int, height: int, seed: int) -> np.ndarray:
    """H x W x 3, uint8: a picture that no codec makes smaller."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
