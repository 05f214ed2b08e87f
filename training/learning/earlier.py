"""What a run takes over from an earlier one: its codec, and the weights that it begins with."""

import shutil
from pathlib import Path
from typing import Any

from training.learning import keeping
from training.learning.settings import Settings

_WEIGHTS = "earlier.checkpoint"
_FILES = ("codec.checkpoint", "codec.json", "encoder.checkpoint", "encoder.json")


def inherit(settings: Settings, earlier: Path, folder: Path) -> None:
    """Copy tokenizer and codec, and the flow's averaged weights, unless that has been done.

    Raises ValueError where the earlier run is of other sizes or another seed, or has no flow yet.
    """
    if (folder / _WEIGHTS).is_file():
        return
    recipe, flow = earlier / "settings.json", keeping.load(earlier / "flow.checkpoint")
    if flow is None or not recipe.is_file():
        raise ValueError(f"{earlier} holds no run that has learnt to draw.")
    told = keeping.load_json(recipe)
    if told["seed"] != settings.seed or told["sizes"] != keeping.plain(settings.sizes):
        raise ValueError(f"{earlier} holds a run of another seed or other sizes.")
    shutil.copytree(earlier / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    for name in _FILES:
        shutil.copyfile(earlier / name, folder / name)
    before = inherited(earlier) or {"steps": 0, "seconds": 0.0}
    kept = {
        "steps": flow["steps"] + before["steps"],
        "seconds": flow["seconds"] + before["seconds"],
        "weights": flow["learner"]["average"],
    }
    keeping.save(folder / _WEIGHTS, kept)


def inherited(folder: Path, device: str = "cpu") -> dict[str, Any] | None:
    """Return `weights` with the `steps` and `seconds` of all flows before, or None where none was."""
    found: dict[str, Any] | None = keeping.load(folder / _WEIGHTS, device)
    return found
