"""Pipelines for tests: no torch, and disasters on demand, named by words in the prompt."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from consumer.gpu.pipeline import (
    Drawn,
    LoadError,
    NanOutputError,
    OutOfMemoryError,
    PromptTooLongError,
)
from consumer.gpu.protocol import Ready


def ready(command, **changes):
    """A Ready message of a pipeline that counts like Z-Image."""
    fields = {
        "model": command.model,
        "revision": "test",
        "pipeline": "Scripted",
        "device": "cpu",
        "device_name": "CPU",
        "backend": "cpu",
        "dtype": "uint8",
        "load_seconds": 0.0,
        "size_multiple": 16,
        "steps_per_forward_less": 1,
    }
    return Ready(**{**fields, **changes})


class Scripted:
    """Draws a gradient at once; words of the prompt make it wait, fail, hang or die.

    `wait=FIFO`: at the first step, block until somebody opens the FIFO for writing.
    `die=N`: be killed as long as fewer than N lives are counted in the file `lives=PATH`.
    """

    def load(self, command, note):
        note("scripted")
        if command.model == "refuse":
            raise LoadError("There is no such model. Choose another.", permanent=True)
        print("noise on standard output", flush=True)  # noqa: T201 - harmless, by design
        return ready(command)

    def draw(self, command, on_step):
        words = dict(
            word.split("=", 1) if "=" in word else (word, "") for word in command.prompt.split()
        )
        for step in range(1, command.forwards + 1):
            on_step(step, command.forwards)
            if step == 1:
                self._act(words)
        return Drawn(
            gradient(command.width, command.height, command.seed),
            command.forwards,
            {"text_encode": 0.0, "denoise": 0.0, "vae_decode": 0.0},
        )

    def _act(self, words):
        if "wait" in words:
            Path(words["wait"]).read_bytes()
        if "die" in words:
            lives = Path(words["lives"])
            with lives.open("a") as file:
                file.write("x")
            if len(lives.read_text()) <= int(words["die"]):
                os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in words:
            time.sleep(3600)
        if "exit" in words:
            sys.exit(3)
        for word, error in _ERRORS.items():
            if word in words:
                raise error(f"scripted {word}")


_ERRORS = {
    "oom": OutOfMemoryError,
    "nan": NanOutputError,
    "long": PromptTooLongError,
    "boom": ZeroDivisionError,
}


def gradient(width, height, seed):
    """H x W x 3, uint8, different for each seed."""
    rows = np.arange(height, dtype=np.uint32)[:, None] * 255 // height
    columns = np.arange(width, dtype=np.uint32)[None, :] * 255 // width
    return np.stack(
        [
            (rows + 0 * columns + seed % 256) % 256,
            (columns + 0 * rows) % 256,
            (rows + columns) // 2 % 256,
        ],
        axis=-1,
    ).astype(np.uint8)
