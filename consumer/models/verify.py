"""The proof that a model is whole: every file is there, as the hub records it, and readable."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consumer.models.cache import shelf_of
from consumer.models.checksum import checksum, read_into
from consumer.models.hub import Hub
from consumer.models.parts import lacking
from consumer.models.selection import INDEX, Recorded, chosen, components
from consumer.models.shown import Shown
from consumer.models.trouble import ModelTroubleError
from consumer.models.weights import header, shard_problems

Proof = Literal["sha256", "git", "structure", "none"]
"""What a file was held against: the hub's SHA-256, git's SHA-1, itself, or nothing as it is broken."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One file and what was found of it."""

    file: str
    size: int
    """Bytes that are here."""
    proof: Proof
    problem: str | None = None
    """The end of a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A model's folder and what ought to be in it."""

    place: Path
    revision: str
    files: tuple[Recorded, ...]


def find_in_cache(model: str, revision: str | None) -> Whole:
    """Return a model of the hub and its files as recorded. Raises ModelTroubleError if it is not here."""
    shelf = shelf_of(model)
    commit = shelf.commit(revision)
    if commit is None or not shelf.snapshot(commit).is_dir():
        raise ModelTroubleError("not_found", f"{model} is not here yet: imagegen model pull")
    place = shelf.snapshot(commit)
    listing = shelf.listing(commit) or _asked(model, commit)
    if listing is None:
        # Nobody knows what ought to be here; what is here bears its checksum as its name.
        return Whole(place, commit, tuple(shelf.linked(commit)))
    try:
        index = json.loads((place / INDEX).read_bytes())
    except (OSError, ValueError):
        index = {}
    names = chosen((file.path for file in listing), index) | {INDEX}
    return Whole(place, commit, tuple(file for file in listing if file.path in names))


def _asked(model: str, commit: str) -> list[Recorded] | None:
    """Ask the hub what it records; None if it does not answer."""
    hub = Hub(model)
    try:
        return hub.listing(commit).files
    except ModelTroubleError:
        return None
    finally:
        hub.close()


def find_in_folder(folder: Path, revision: str) -> Whole:
    """Return a pipeline's folder, of which nothing is recorded. Raises ModelTroubleError if it is none."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError):
        raise ModelTroubleError(
            "not_found",
            f"{folder} has no {INDEX} that can be read: it is no pipeline's folder.",
        ) from None
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    names = sorted(chosen(found, index))
    return Whole(folder, revision, tuple(Recorded(name, 0, "") for name in names))


def check(whole: Whole, show: Callable[[str, int, int], Shown]) -> Iterator[Checked]:
    """Look at every file, and then at what holds between them."""
    paths = [whole.place / file.path for file in whole.files]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    broken = set()
    with show("checked", len(paths), size) as shown:
        for file, path in zip(whole.files, paths, strict=True):
            checked = _check_file(file, path, shown)
            broken |= {file.path} if checked.problem else set()
            yield checked
            shown.file()
    yield from (found for found in _between(whole.place, paths) if found.file not in broken)


def _between(place: Path, paths: list[Path]) -> Iterator[Checked]:
    """Look at what the files say of each other."""
    for index in (path for path in paths if path.name.endswith(".safetensors.index.json")):
        folder = index.parent.relative_to(place)
        for name, problem in shard_problems(index):
            yield Checked(f"{folder}/{name}", 0, "none", problem)
    try:
        parts = components(json.loads((place / INDEX).read_bytes()))
        names = [name for part in parts for name in lacking(place, part)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # told of the file that cannot be read
    yield from (Checked(name, 0, "none", "is missing") for name in names)


def _check_file(file: Recorded, path: Path, shown: Shown) -> Checked:
    if not path.is_file():
        return Checked(file.path, 0, "none", "is missing")
    size = path.stat().st_size
    if not file.blob:
        shown.note(size)
        return Checked(file.path, size, "structure", _unreadable(path))
    if size != file.size:
        shown.note(size)
        return Checked(file.path, size, "none", f"has {size} bytes instead of {file.size}")
    digest = checksum(file)
    with path.open("rb") as opened:
        read_into(digest, opened, shown.note)
    if digest.hexdigest() != file.blob:
        return Checked(
            file.path, size, "none", "is not what the hub records: bytes have changed"
        )
    return Checked(file.path, size, "sha256" if file.sha256 else "git", _unreadable(path))


def _unreadable(path: Path) -> str | None:
    """Return why a file cannot be what its name says; None if it can."""
    try:
        if path.suffix == ".safetensors":
            header(path)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
    except ValueError as error:
        return str(error) if path.suffix == ".safetensors" else "is no JSON"
    return None
