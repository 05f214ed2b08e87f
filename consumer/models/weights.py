"""The inside of weights: a safetensors file fits its own header, shards fit their index."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADER_MOST_BYTES = 100 << 20
"""What safetensors itself reads at most."""


def header(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file, by name. Raises ValueError with a sentence's end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_MOST_BYTES, size - 8):
            raise ValueError("has no safetensors header")
        try:
            told = json.loads(file.read(length))
        except ValueError:
            raise ValueError("has a safetensors header that cannot be read") from None
    tensors = {name: tensor for name, tensor in told.items() if name != "__metadata__"}
    _check_offsets(tensors, size - 8 - length)
    return tensors


def _check_offsets(tensors: Mapping[str, Any], size: int) -> None:
    """Raise ValueError unless the tensors fill the rest of the file, one after the other."""
    try:
        spans = sorted(tuple(tensor["data_offsets"]) for tensor in tensors.values())
        at = 0
        for begin, end in spans:
            if begin != at or end < begin:
                raise ValueError("has tensors that overlap, or a hole between two")
            at = end
    except (KeyError, TypeError):
        raise ValueError("has a safetensors header that cannot be read") from None
    if at != size:
        raise ValueError(f"has {size} bytes of tensors, its header says {at}")


def shard_problems(index: Path) -> list[tuple[str, str]]:
    """Return what an index of shards and its shards do not agree on: file and sentence's end."""
    try:
        mapped: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        shards = sorted(set(mapped.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [(index.name, "is no index of shards")]
    problems = []
    for shard in shards:
        named = {name for name, place in mapped.items() if place == shard}
        problems += [
            (shard, problem) for problem in _shard_problem(index.parent / shard, named)
        ]
    return problems


def _shard_problem(path: Path, named: set[str]) -> list[str]:
    if not path.is_file():
        return ["is missing"]
    try:
        held = set(header(path))
    except (OSError, ValueError):
        return []  # told of the file itself
    lacking, more = sorted(named - held), sorted(held - named)
    if lacking:
        return [f"lacks {lacking[0]!r}, which the index has in it"]
    return [f"has {more[0]!r}, which is not in the index"] if more else []
