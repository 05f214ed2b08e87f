"""`python3 -m training`: train the built-in model, or go on where an earlier run was."""

import argparse
import dataclasses
from pathlib import Path

import torch

from training.learning.run import Run, run
from training.learning.settings import NAMED


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--preset", choices=sorted(NAMED), help="settings; of the device if none"
    )
    parser.add_argument("--minutes", type=float, default=480.0, help="in all, over all runs")
    parser.add_argument("--steps", type=int, help="of each learning phase, instead of minutes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--output", type=Path, default=Path("build/training"))
    parser.add_argument(
        "--earlier", type=Path, help="a run whose codec and weights this one begins with"
    )
    parser.add_argument(
        "--afresh", action="store_true", help="refuse a folder with an earlier run in it"
    )
    asked = parser.parse_args()
    if asked.afresh and (asked.output / "settings.json").is_file():
        parser.error(f"{asked.output} holds an earlier run: remove it, or leave out --afresh")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    settings = dataclasses.replace(
        NAMED[asked.preset or asked.device], seed=asked.seed, device=asked.device
    )
    run(Run(settings, asked.output, asked.minutes, asked.steps, earlier=asked.earlier))


if __name__ == "__main__":
    main()
