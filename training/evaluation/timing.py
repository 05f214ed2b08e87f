"""`python3 -m training.evaluation.timing FOLDER`: what a picture costs, as one line of JSON."""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from training.evaluation.drawing import Model

_PROMPT = "a sunset over mountains"
_SIZES = ((512, 512), (1024, 1024), (1280, 720))


def main() -> None:
    """Measure the load, the pictures (median of three after a first one), and the memory."""
    parser = argparse.ArgumentParser(prog="training.evaluation.timing", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = Model(asked.folder)
    seconds = {f"{width}x{height}": _picture(model, width, height) for width, height in _SIZES}
    told = {
        "seconds": seconds,
        "load seconds": round(model.load_s, 3),
        "resident MiB": _resident_mib(),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(told))


def _resident_mib() -> int:
    """Return the most memory of this process so far.

    Not `getrusage`'s, which begins with that of whoever started the process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return round(int(told["VmHWM"].split()[0]) / 1024)


def _picture(model: Model, width: int, height: int) -> float:
    taken = []
    for seed in range(4):
        began = time.monotonic()
        model.draw(_PROMPT, width, height, seed)
        taken.append(time.monotonic() - began)
    return round(median(taken[1:]), 3)


if __name__ == "__main__":
    main()
