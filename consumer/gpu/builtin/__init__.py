"""The built-in model: where it lies. What it is: README.md in its folder; made by `training/`."""

from pathlib import Path

NAME = "builtin"
REVISION = "scenes-3"
"""Changes with the weights: the same seed draws the same picture for one revision."""
FOLDER = Path(__file__).resolve().parent / "model"
"""A folder as `ZImagePipeline.save_pretrained` writes it."""
