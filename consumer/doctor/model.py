"""The model as it is found: built in, in a folder, in the cache of the hub, or to be downloaded."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from consumer.doctor.machine import Folder, folder

BUILTIN = "builtin"
ASK_S = 5.0
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class ModelFound:
    """Where the model's files are, and what is missing of them."""

    source: Literal["builtin", "folder", "hub"]
    place: str
    """The folder; empty where it has to be downloaded."""
    missing: tuple[str, ...] = ()
    weights: dict[str, int] = field(default_factory=dict)
    """Bytes of the weights on disk, by component."""
    cache: Folder | None = None
    """Where a download goes."""
    hub_problem: str | None = None
    """Why it cannot be downloaded; None where it can, or need not be."""


def look(model: str, revision: str | None) -> ModelFound:
    """Look for the model of the settings, first on this machine."""
    if model == BUILTIN:
        return ModelFound("builtin", "")
    if Path(model).is_dir():
        return _in_folder("folder", Path(model), None)
    return _in_hub(model, revision)


def _in_hub(model: str, revision: str | None) -> ModelFound:
    # Imported here: a command line without the service has no hub.
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415

    cache = folder(Path(constants.HF_HUB_CACHE))
    index = try_to_load_from_cache(model, "model_index.json", revision=revision)
    if isinstance(index, str):
        found = _in_folder("hub", Path(index).parent, cache)
        if not found.missing:
            return found
    if constants.HF_HUB_OFFLINE:
        problem: str | None = "HF_HUB_OFFLINE is set"
    else:
        problem = _hub_problem(constants.ENDPOINT, model, revision)
    return ModelFound("hub", "", cache=cache, hub_problem=problem)


def _hub_problem(endpoint: str, model: str, revision: str | None) -> str | None:
    page = f"{endpoint}/api/models/{model}"
    try:
        with urllib.request.urlopen(  # noqa: S310 - the hub's own address
            page if revision is None else f"{page}/revision/{revision}", timeout=ASK_S
        ):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"{endpoint} answers {error.code} for it"
    except (OSError, ValueError) as error:
        return f"{endpoint} cannot be reached ({getattr(error, 'reason', error)})"


def _in_folder(
    source: Literal["folder", "hub"], place: Path, cache: Folder | None
) -> ModelFound:
    try:
        components = _components(place)
    except (OSError, ValueError):
        return ModelFound(source, str(place), ("model_index.json",), cache=cache)
    missing = tuple(name for part in components for name in _missing(place, part))
    weights = {part: size for part in components if (size := _weights(place / part))}
    return ModelFound(source, str(place), missing, weights, cache)


def _components(place: Path) -> list[str]:
    index = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
    return [
        name
        for name, kind in index.items()
        if isinstance(kind, list) and len(kind) == 2 and None not in kind
    ]


def _missing(place: Path, part: str) -> Iterator[str]:
    """Give the files that a component lacks."""
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
    if not shards and (inside / "config.json").is_file() and not _weights(inside):
        yield f"{part}/*{_WEIGHTS[0]}"


def _weights(inside: Path) -> int:
    """Return the bytes of a component's weights, those that would be loaded: one kind of them."""
    for ending in _WEIGHTS:
        size = sum(path.stat().st_size for path in inside.glob(f"*{ending}"))
        if size:
            return size
    return 0
