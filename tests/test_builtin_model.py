"""The built-in model: in the repository and the wheel, without a network, and what it weighs."""

import json
import stat
import tomllib
from pathlib import Path

import pytest
from safetensors import safe_open

from consumer.gpu import builtin
from tests.diffusing import command, ignore, load

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for path in builtin.FOLDER.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built_in(new_pipeline):
    return new_pipeline(load("builtin"))


@pytest.mark.usefixtures("forbid_network")
def test_the_built_in_model_needs_no_network(new_pipeline):
    """Loaded and drawn with while every way out is an error."""
    pipeline, ready = new_pipeline(load("builtin"))
    assert pipeline.draw(command(forwards=1), ignore).forwards == 1
    assert (ready.model, ready.revision) == ("builtin", builtin.REVISION)
    assert ready.pipeline == "ZImagePipeline"


def test_the_built_in_model_is_small():
    """A clone stays quick: at most 25 MB, and every weight in half precision."""
    assert sum(path.stat().st_size for path in FILES) <= 25_000_000
    for path in (path for path in FILES if path.suffix == ".safetensors"):
        with safe_open(path, "pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "BF16"}, path


def test_the_built_in_model_may_be_read_by_everybody():
    """A service of another user than the one that cloned reads it."""
    for path in (builtin.FOLDER, *builtin.FOLDER.rglob("*")):
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert path.stat().st_mode & wanted == wanted, path


def test_the_built_in_model_says_what_it_is_and_whence_it_came():
    """Card, licence, and the recipe of the run: seed, settings, seconds."""
    assert "license: mit" in (builtin.FOLDER / "README.md").read_text()
    told = json.loads((builtin.FOLDER / "training.json").read_text())
    assert {"settings", "seconds", "steps", "device", "torch"} <= told.keys()
    assert isinstance(told["settings"]["seed"], int)


def test_the_wheel_has_every_file_of_the_built_in_model():
    """What the patterns of the package's data leave out would be missing after an install."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["consumer.gpu.builtin"]
    package = builtin.FOLDER.parent
    packed = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    assert packed == set(FILES)


def test_the_same_seed_draws_the_same_picture(built_in, new_pipeline):
    """In this process and in one that loads it anew."""
    again, _ = new_pipeline(load("builtin"))
    first, second = (each.draw(command(), ignore).pixels for each in (built_in[0], again))
    assert (first == second).all()
