"""`python3 -m training.evaluation`: figures, a table and contact sheets of a finished model."""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.evaluation.drawing import Model, by_the_painter
from training.evaluation.held import Question, questions
from training.evaluation.judge import BARS, judge, totals
from training.evaluation.readers import Readers, learn_readers
from training.learning.sheets import save_picture, sheet

_SHIPPED = Path("consumer/gpu/builtin/model")
_SIDE = 512
_SEEDS = 4
_SHOWN = 18
"""Pairs on a contact sheet."""


def main() -> None:
    """Read the command line, evaluate, write."""
    parser = argparse.ArgumentParser(prog="training.evaluation", description=__doc__)
    parser.add_argument("--model", type=Path, default=_SHIPPED)
    parser.add_argument("--output", type=Path, default=Path("build/evaluation"))
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.output.mkdir(parents=True, exist_ok=True)
    readers, held = learn_readers(), questions(asked.questions)
    own = [by_the_painter(one.scene, _SIDE, _SIDE) for one in held]
    model = Model(asked.model)
    began = time.monotonic()
    drawn = []
    for index, one in enumerate(held):
        drawn.append(model.draw(one.caption, _SIDE, _SIDE, index))
        if index % 20 == 19:
            print(f"{index + 1} of {len(held)}, {time.monotonic() - began:.0f} s", flush=True)
    found = {
        "readers": {
            "shape": readers.shape.accuracy,
            "sky": readers.sky.accuracy,
            "land": readers.land.accuracy,
        },
        "painter": rates(own, held, readers),
        "painter, captions shuffled": rates(own, shuffled(held), readers),
        "model": rates(drawn, held, readers),
        "diversity": diversity(model, held[:8]),
        "eight steps against thirty": steps_apart(model, held[:8]),
        **timings(asked.model, asked.threads),
    }
    (asked.output / "evaluation.json").write_text(json.dumps(found, indent=2) + "\n")
    (asked.output / "evaluation.md").write_text(table(found))
    contact_sheets(model, held, asked.output)
    print(table(found))


def rates(pictures: list[Tensor], asked: list[Question], readers: Readers) -> dict[str, Any]:
    """Return how much is right, by what was judged: part, right, asked."""
    verdicts = [
        judge(picture, one.scene, readers) for picture, one in zip(pictures, asked, strict=True)
    ]
    return {
        what: {"part": round(right / count, 4), "right": right, "asked": count}
        for what, (right, count) in totals(verdicts).items()
    }


def shuffled(held: list[Question], seed: int = 5) -> list[Question]:
    """Return the questions in another order within their kinds: an evaluation must fail these."""
    rng = random.Random(seed)
    kinds: dict[type, list[Question]] = {}
    for one in held:
        kinds.setdefault(type(one.scene), []).append(one)
    for several in kinds.values():
        rng.shuffle(several)
    return [kinds[type(one.scene)].pop() for one in held]


def diversity(model: Model, held: list[Question]) -> float:
    """Return the mean absolute difference of pictures of one prompt and unlike seeds, 0..1."""
    apart = []
    for one in held:
        several = [
            _glance(model.draw(one.caption, _SIDE, _SIDE, seed)) for seed in range(_SEEDS)
        ]
        apart += [
            float((a - b).abs().mean()) for i, a in enumerate(several) for b in several[:i]
        ]
    return round(sum(apart) / len(apart), 4)


def steps_apart(model: Model, held: list[Question]) -> float:
    """Return the mean absolute difference of eight forwards and thirty, 0..1."""
    apart = []
    for index, one in enumerate(held):
        few, many = (
            _glance(model.draw(one.caption, _SIDE, _SIDE, index, forwards))
            for forwards in (8, 30)
        )
        apart.append(float((few - many).abs().mean()))
    return round(sum(apart) / len(apart), 4)


def _glance(picture: Tensor) -> Tensor:
    return functional.interpolate(picture[None], (64, 64), mode="area")[0]


def timings(folder: Path, threads: int) -> dict[str, Any]:
    """Measure in a process of its own, which holds no pictures but its one."""
    program = [sys.executable, "-m", "training.evaluation.timing"]
    told = subprocess.run(  # noqa: S603 - our own module
        [*program, str(folder), "--threads", str(threads)],
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, Any] = json.loads(told.stdout)
    return measured


def table(found: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    lines = [
        "| held-out captions | bar | model | painter | shuffled |",
        "|---|---|---|---|---|",
    ]
    for what, rate in found["model"].items():
        bar = f"{BARS[what]:.0%}" if what in BARS else ""
        others = (
            found[name][what]["part"] for name in ("painter", "painter, captions shuffled")
        )
        told = " | ".join(f"{part:.1%}" for part in (rate["part"], *others))
        lines.append(f"| {what} ({rate['asked']}) | {bar} | {told} |")
    readers = ", ".join(f"{name} {part:.1%}" for name, part in found["readers"].items())
    seconds = ", ".join(f"{size} {taken} s" for size, taken in found["seconds"].items())
    lines += [
        "",
        f"The readers' own accuracy on the painter's pictures: {readers}.",
        (
            f"Drawn on {found['threads']} threads: {seconds}; load {found['load seconds']} s, "
            f"resident {found['resident MiB']} MiB at the most."
        ),
        (
            f"Mean difference (0..1) between seeds {found['diversity']}, "
            f"between 8 and 30 forwards {found['eight steps against thirty']}."
        ),
    ]
    return "\n".join(lines) + "\n"


def contact_sheets(model: Model, held: list[Question], folder: Path) -> None:
    """Write pairs of painter (left) and model (right) with their captions, and the model alone.

    `blind.jpg` is for somebody who says what is seen without knowing what was asked for.
    """
    for name, (width, height), scale in (
        ("square", (512, 512), 0.5),
        ("wide", (1280, 720), 0.25),
    ):
        pictures = []
        for index, one in enumerate(held[:_SHOWN]):
            painted = by_the_painter(one.scene, width, height)
            drawn = model.draw(one.caption, width, height, index)
            pictures += [
                functional.interpolate(each[None], scale_factor=scale, mode="area")[0]
                for each in (painted, drawn)
            ]
        save_picture(folder / f"{name}.jpg", sheet(torch.stack(pictures), 6))
        if name == "square":
            save_picture(folder / "blind.jpg", sheet(torch.stack(pictures[1:20:2]), 5))
    told = "".join(f"{index + 1}. {one.caption}\n" for index, one in enumerate(held[:_SHOWN]))
    (folder / "captions.md").write_text(told)


if __name__ == "__main__":
    main()
