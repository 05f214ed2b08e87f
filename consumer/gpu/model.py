"""The model: its folder, fetched where needed, and the class that draws with it."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers

from consumer.gpu import builtin
from consumer.gpu.pipeline import LoadError
from consumer.gpu.protocol import Load

_CALL = ("prompt", "width", "height", "num_inference_steps", "guidance_scale", "generator")
_CALL_MORE = ("output_type", "callback_on_step_end")


def fetch(command: Load, note: Callable[[str], None]) -> tuple[Path, str]:
    """Return the folder of the model and its revision, downloading it where needed.

    Raises LoadError if it cannot be had.
    """
    if command.model == builtin.NAME:
        return builtin.FOLDER, builtin.REVISION
    folder = Path(command.model)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise LoadError(
                f"{folder} has no model_index.json: it is no folder of a diffusers pipeline.",
                permanent=True,
            )
        return folder, "local"
    if folder.is_absolute() or command.model.startswith("."):
        raise LoadError(f"There is no folder {folder}.", permanent=True)
    note(f"fetching {command.model}; a first download is about 20 GB for Z-Image-Turbo")
    try:
        found = diffusers.DiffusionPipeline.download(
            command.model, revision=command.revision, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise LoadError(
            f"The model {command.model} cannot be had: {error}. Check IMAGE_GEN_MODEL and the "
            "way to the hub, give a folder, or set IMAGE_GEN_MODEL=builtin.",
            permanent=False,
        ) from error
    return Path(found), Path(found).name


def pipeline_class(folder: Path) -> tuple[str, Any]:
    """Return the class that the folder asks for. Raises LoadError if we cannot call it."""
    try:
        name = str(json.loads((folder / "model_index.json").read_text())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(
            f"{folder}/model_index.json cannot be read: {error!r}. Fetch the model again.",
            permanent=True,
        ) from error
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise LoadError(
            f"{folder} asks for the pipeline {name}, which diffusers {diffusers.__version__} "
            "does not have. Choose a text-to-image model that it has.",
            permanent=True,
        )
    parameters = inspect.signature(found.__call__).parameters
    missing = [argument for argument in (*_CALL, *_CALL_MORE) if argument not in parameters]
    if missing:
        raise LoadError(
            f"{name} does not take {', '.join(missing)}, so it cannot be driven as a "
            "text-to-image pipeline. Choose another model.",
            permanent=True,
        )
    return name, found
