"""Pipelines for tests: no torch, and disasters on demand, named by words in the prompt."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from consumer.gpu.pipeline import (
    DeviceLostError,
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
        "steps_per_forward_less": 1,
    }
    return Ready(**{**fields, **changes})


class Scripted:
    """Draws a gradient at once; words of the prompt make it wait, fail, hang or die.

    The same words in the file `faults` of the data folder, where there is one, go for every
    picture as long as they stand there: for those that nobody asked for with a prompt, too.

    Time, in seconds (otherwise none passes):
    `step=SECONDS`: each step takes so long.
    `draw=SECONDS`: all steps together take so long.
    `slow`: as `step=0.25`.
    `wait=FIFO`: at the first step, block until somebody opens the FIFO for writing.

    Hangs, an hour each:
    `hang`: at the first step. `hang_once=PATH`: there too, but only in the first picture that
    finds no mark in the file PATH (the `..._once` words leave theirs before they act).
    `stuck_stage=text_encode|denoise|vae_decode` (`text`, `vae`): before the first step, after
    it, or after the last.

    Deaths, at the first step:
    `die=N`: be killed as long as fewer than N lives are counted in the file `lives=PATH`.
    `die_once=PATH`: be killed once. `exit`: leave with code 3. `lost`: lose the device.

    Failures that the child survives:
    `oom`, `nan`, `long`, `boom`: too little memory, no numbers, too long a prompt, a defect.
    `quote`: a defect that quotes the prompt.
    `oom_once=PATH`: too little memory, unless it is to be decoded in tiles; each time is marked.
    `nan_once=PATH`: no numbers, once.
    `flat`: the picture is of one colour.

    Traces:
    `leak=MB`: so much more resident memory is held with each picture.
    `note=PATH`: append the job id and `tiled` or `whole` to the file, a line for each start.

    While loading, from the file `faults` only: `die_loading`, `fail_loading` (may pass by itself),
    `refuse_loading` (does not), `wait_loading=FIFO` (blocks until somebody opens it for writing).
    """

    def load(self, command, note):
        note("scripted")
        self._faults = Path(command.data_dir) / "faults"
        self._leaked = []
        if command.model == "refuse":
            raise LoadError("There is no such model. Choose another.", permanent=True)
        words = self._words("")
        if "wait_loading" in words:
            Path(words["wait_loading"]).read_bytes()
        if "die_loading" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "fail_loading" in words:
            raise LoadError("The hub is away. Try again later.", permanent=False)
        if "refuse_loading" in words:
            raise LoadError("The model does not fit. Set IMAGE_GEN_MEMORY=low.", permanent=True)
        print("noise on standard output", flush=True)  # noqa: T201 - harmless, by design
        return ready(command)

    def draw(self, command, on_step):
        words = self._words(command.prompt)
        _leave_a_note(words, command)
        pause, stuck = _pause_s(words, command.forwards), words.get("stuck_stage", "")
        if stuck.startswith("text"):
            time.sleep(HANG_S)
        for step in range(1, command.forwards + 1):
            time.sleep(pause)
            on_step(step, command.forwards)
            if step == 1:
                self._act(words, command)
            if stuck == "denoise":
                time.sleep(HANG_S)
        if stuck.startswith("vae"):
            time.sleep(HANG_S)
        pixels = gradient(command.width, command.height, command.seed)
        if "flat" in words:
            pixels[:] = 7
        return Drawn(
            pixels,
            command.forwards,
            {"text_encode": 0.0, "denoise": pause * command.forwards, "vae_decode": 0.0},
        )

    def _words(self, prompt):
        faults = self._faults.read_text() if self._faults.is_file() else ""
        return dict(
            word.split("=", 1) if "=" in word else (word, "")
            for word in f"{prompt} {faults}".split()
        )

    def _act(self, words, command):
        if "wait" in words:
            Path(words["wait"]).read_bytes()
        if "leak" in words:
            # Written to: memory that was never touched is not resident.
            self._leaked.append(b"\1" * (int(words["leak"]) << 20))
        if "die" in words and _marks(words["lives"]) <= int(words["die"]):
            os.kill(os.getpid(), signal.SIGKILL)
        if "die_once" in words and _marks(words["die_once"]) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in words or ("hang_once" in words and _marks(words["hang_once"]) == 1):
            time.sleep(HANG_S)
        if "exit" in words:
            sys.exit(3)
        _fail(words, command)


class Endless(Scripted):
    """Goes on until it is told to stop."""

    def draw(self, command, on_step):
        while True:
            time.sleep(0.001)  # what a step costs a GPU
            on_step(1, command.forwards)


class DiesLoading:
    """Is killed while it loads, as by the kernel for want of memory."""

    def load(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)


class Unlucky:
    """Cannot load today."""

    def load(self, *_):
        raise LoadError("The hub is away. Try again later.", permanent=False)


def _leave_a_note(words, command):
    if "note" in words:
        with Path(words["note"]).open("a") as file:
            file.write(f"{command.id} {'tiled' if command.tiled else 'whole'}\n")


def _pause_s(words, forwards):
    if "slow" in words:
        return SLOW_STEP_S
    return float(words.get("step", 0)) or float(words.get("draw", 0)) / forwards


def _marks(path):
    """Leave another mark in a file, and return how many there are now."""
    with Path(path).open("a") as file:
        file.write("x")
    return len(Path(path).read_text())


def _fail(words, command):
    for word, error in _ERRORS.items():
        if word in words:
            raise error(f"scripted {word}")
    if "quote" in words:
        raise ValueError(f"cannot draw {command.prompt!r}")
    if "oom_once" in words and not command.tiled:
        _marks(words["oom_once"])
        raise OutOfMemoryError("scripted oom_once")
    if "nan_once" in words and _marks(words["nan_once"]) == 1:
        raise NanOutputError("scripted nan_once")


HANG_S = 3600.0
SLOW_STEP_S = 0.25

_ERRORS = {
    "oom": OutOfMemoryError,
    "nan": NanOutputError,
    "long": PromptTooLongError,
    "boom": ZeroDivisionError,
    "lost": DeviceLostError,
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
