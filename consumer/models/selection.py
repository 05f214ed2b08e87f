"""The files of a repository that the pipeline loads, and no others. Pure.

The rules are those of `DiffusionPipeline.download(use_safetensors=True)` without a variant, which has
the last word: what it takes beyond these is fetched by it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

INDEX = "model_index.json"

_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors")
_SHARDS = re.compile(r"(diffusion_pytorch_model|model)\.safetensors\.index\.json")
_ANY_SHARDS = re.compile(r".*\.index(\.[^.]+)?\.json")
_KINDS_OF_WEIGHTS = frozenset(
    f".{ending}"
    for ending in (
        *("safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "gguf", "flashpack"),
        *("onnx", "onnx_data", "pb"),
    )
)
_AT_THE_ROOT = frozenset(
    {
        INDEX,
        "config.json",
        "scheduler_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file as the hub records it."""

    path: str
    """Inside the repository, with slashes."""
    size: int
    """Bytes."""
    blob_id: str
    """SHA-1 of the git blob: of the file itself, or of the pointer to a large one."""
    sha256: str | None = None
    """Of a large file; None where git itself holds it."""

    @property
    def blob(self) -> str:
        """Return its name in the cache, which is its checksum."""
        return self.sha256 or self.blob_id


def components(index: Mapping[str, Any]) -> list[str]:
    """Return the names of a pipeline's parts, each a folder, by its model_index.json."""
    return [
        name
        for name, kind in index.items()
        if isinstance(kind, list) and len(kind) == 2 and None not in kind
    ]


def chosen(paths: Iterable[str], index: Mapping[str, Any]) -> set[str]:
    """Return those of a repository's files that the pipeline of this model_index.json loads."""
    paths = set(paths) - set(index.get("_ignore_files", ()))
    with_weights = {_folder(path) for path in paths if _is_weights(path)}
    parts = set(components(index))
    return {path for path in paths if _is_chosen(path, parts, with_weights)}


def without_safetensors(paths: Iterable[str], index: Mapping[str, Any]) -> list[str]:
    """Return the parts whose weights are there in other formats only, which we do not load."""
    paths = set(paths)
    safe = {_folder(path) for path in chosen(paths, index) if _is_weights(path)}
    held = {_folder(path) for path in paths if _is_weights(path)}
    return sorted(set(components(index)) & held - safe)


def _is_chosen(path: str, parts: set[str], with_weights: set[str]) -> bool:
    folder, name = _folder(path), PurePosixPath(path).name
    if _WEIGHTS.fullmatch(name) or _SHARDS.fullmatch(name):
        return True
    if not folder:
        return name in _AT_THE_ROOT
    if _is_weights(path) or path.split("/", maxsplit=1)[0] not in parts:
        return False
    if folder in with_weights:
        return name == "config.json"
    return not _ANY_SHARDS.fullmatch(name)


def _is_weights(path: str) -> bool:
    return PurePosixPath(path).suffix in _KINDS_OF_WEIGHTS


def _folder(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent
