"""The parts of a pipeline in a folder: what they lack, by what they say of themselves."""

import json
from collections.abc import Iterator
from pathlib import Path

_WEIGHTS = (".safetensors", ".bin")


def lacking(place: Path, part: str) -> Iterator[str]:
    """Give the files that a part lacks. Raises OSError, ValueError for one that cannot be read."""
    inside = place / part
    if not inside.is_dir():
        yield f"{part}/"
        return
    shards = {
        shard
        for index in inside.glob("*.index.json")
        for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    }
    yield from (f"{part}/{shard}" for shard in sorted(shards) if not (inside / shard).is_file())
    # A model has a config.json; tokenizers and schedulers have one of another name.
    if not shards and (inside / "config.json").is_file() and not weights_bytes(inside):
        yield f"{part}/*{_WEIGHTS[0]}"


def weights_bytes(inside: Path) -> int:
    """Return the bytes of a part's weights, those that would be loaded: one kind of them."""
    for ending in _WEIGHTS:
        size = sum(path.stat().st_size for path in inside.glob(f"*{ending}"))
        if size:
            return size
    return 0
