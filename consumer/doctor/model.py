"""The model as it is found: built in, in a folder, in the cache of the hub, or to be downloaded."""

import json
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from consumer.doctor.machine import Folder, folder
from consumer.models.parts import lacking, weights_bytes
from consumer.models.selection import INDEX, components

BUILTIN = "builtin"
ASK_S = 5.0


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
    index = try_to_load_from_cache(model, INDEX, revision=revision)
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
        parts = components(json.loads((place / INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ModelFound(source, str(place), (INDEX,), cache=cache)
    missing = tuple(name for part in parts for name in lacking(place, part))
    weights = {part: size for part in parts if (size := weights_bytes(place / part))}
    return ModelFound(source, str(place), missing, weights, cache)
