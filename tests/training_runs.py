"""What the tests of the training share: a run of a few steps, here or in a process of its own."""

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


def finish(folder):
    """Run, or go on, to the end in this process, which has the imports behind it already."""
    import torch

    from training.learning.run import Run, run
    from training.learning.settings import PROOF

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process of its own: sums in one order
    try:
        run(Run(PROOF, folder, 480.0, STEPS))
    finally:
        torch.set_num_threads(threads)
