"""What the tests of the training share: a run of a few steps, here or in a process of its own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = 3


def command(folder):
    options = ("--preset", "proof", "--steps", str(STEPS), "--threads", "1")
    return [sys.executable, "-m", "training", *options, "--output", str(folder)]


def start(folder):
    """Start a run; its output is of no interest, its files are."""
    return subprocess.Popen(
        command(folder),
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@contextlib.contextmanager
def one_thread():
    """Sums in one order, and no waiting of many small steps for a thread of a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def finish(folder, earlier=None):
    """Run, or go on, to the end in this process, which has the imports behind it already."""
    from training.learning.run import Run, run
    from training.learning.settings import PROOF

    with one_thread():
        run(Run(PROOF, folder, 480.0, STEPS, earlier=earlier))
