"""What outlives a kill: files that are there whole or not at all."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch


def save(path: Path, value: Any) -> None:
    """Write tensors and plain values; a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path, device: str = "cpu") -> Any:
    """Read what `save` wrote, or None where it never did."""
    if not path.is_file():
        return None
    return torch.load(path, map_location=device, weights_only=True)


def save_json(path: Path, value: Any) -> None:
    """Write JSON the same way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=2) + "\n")
    unfinished.replace(path)


def plain(value: Any) -> Any:
    """Return a dataclass as JSON gives it back."""
    return json.loads(json.dumps(asdict(value)))


def load_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text())
