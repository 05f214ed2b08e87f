"""The classes that a model asks for: its pipeline and its parts, as the installed libraries have them."""

import importlib
import json
from pathlib import Path

from consumer.gpu.pipeline import LoadError
from consumer.models.selection import INDEX, components

LIBRARIES = frozenset({"diffusers", "transformers"})


def class_problems(folder: Path) -> list[str]:
    """Return in sentences what this model asks for that is not installed."""
    # Imported here: with it come torch and diffusers, which take seconds.
    from consumer.gpu.model import pipeline_class  # noqa: PLC0415

    try:
        pipeline_class(folder)
    except LoadError as error:
        return [str(error)]
    index = json.loads((folder / INDEX).read_bytes())
    return [
        f"Its {part} is a {library}.{name}, which is not installed."
        for part in components(index)
        for library, name in (index[part],)
        if not _is_installed(library, name)
    ]


def _is_installed(library: str, name: str) -> bool:
    """Whether a part's class is there; code that a repository brings along is not, nor is it run."""
    if library in LIBRARIES:
        return hasattr(importlib.import_module(library), name)
    # As diffusers has it: a part of its own may be named by the pipeline that it came with.
    pipelines = importlib.import_module("diffusers.pipelines")
    return hasattr(getattr(pipelines, library, None), name)
