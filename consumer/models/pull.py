"""The pull: the files that the pipeline loads brought into the cache, ahead of the first start."""

import errno
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.models.cache import Shelf, is_commit, shelf_of
from consumer.models.checksum import checksum, read_into
from consumer.models.download import Reader, StoppedError, download, unfinished
from consumer.models.hub import Hub, Listing
from consumer.models.selection import INDEX, Recorded, chosen, without_safetensors
from consumer.models.shown import Shown, in_units
from consumer.models.trouble import ModelTroubleError

AT_ONCE = 4
"""Files on their way: more than one connection is quicker, many are held against us."""
SPARE_BYTES = 256 << 20
"""That stay free on the disk."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be here."""

    model: str
    """An id of the hub."""
    revision: str | None
    check: bool = False
    """Read what is here, too, and bring again what is damaged."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is here now."""

    place: Path
    commit: str
    files: int
    size: int
    """Bytes of all the files."""
    fetched: int
    """Bytes that were brought for it."""
    hub_problem: str | None = None
    """Why nobody could be asked whether the hub has something newer."""


def pull(
    wish: Wish, show: Callable[[str, int, int], Shown], settle: Callable[[], Path]
) -> Pulled:
    """Have all files of a model in the cache.

    `show(verb, files, bytes)` opens what tells how far it is; `settle` is the pipeline's own way to
    its folder, which takes what it finds and has the last word on what it needs.

    Raises ModelTroubleError; what had come stays for the next time.
    """
    shelf = shelf_of(wish.model)
    known = _here(shelf, wish)
    if known is not None and is_commit(wish.revision) and not wish.check:
        return known
    hub = Hub(wish.model)
    try:
        return _pull(hub, shelf, wish, show, settle)
    except ModelTroubleError as error:
        if known is None or wish.check or error.code not in {"offline", "unreachable"}:
            raise
        return Pulled(known.place, known.commit, known.files, known.size, 0, error.message)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelTroubleError(
                "no_space",
                f"The disk of {shelf.folder} is full; what has come is kept. Make room, or set "
                "HF_HOME to a folder on a larger disk.",
            ) from error
        raise ModelTroubleError(
            "not_writable",
            f"{shelf.folder} cannot be written ({error.strerror or error}). Give it to this user, "
            "or set HF_HOME to a folder that is.",
        ) from error
    finally:
        hub.close()


def _here(shelf: Shelf, wish: Wish) -> Pulled | None:
    """Return the model if all its files are in place, as the hub last told of it; None if not."""
    commit = shelf.commit(wish.revision)
    listing = None if commit is None else shelf.listing(commit)
    if commit is None or listing is None:
        return None
    place = shelf.snapshot(commit)
    try:
        index = json.loads((place / INDEX).read_bytes())
    except (OSError, ValueError):
        return None
    files = _of(listing, index)
    if not all(_has_size(place / file.path, file.size) for file in files):
        return None
    return Pulled(place, commit, len(files), sum(file.size for file in files), 0)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _is_held(shelf: Shelf, file: Recorded) -> bool:
    return _has_size(shelf.blobs / file.blob, file.size)


def _of(files: list[Recorded], index: dict[str, Any]) -> list[Recorded]:
    names = chosen((file.path for file in files), index)
    return [file for file in files if file.path in names]


def _pull(
    hub: Hub,
    shelf: Shelf,
    wish: Wish,
    show: Callable[[str, int, int], Shown],
    settle: Callable[[], Path],
) -> Pulled:
    listing = hub.listing(wish.revision)
    shelf.blobs.mkdir(parents=True, exist_ok=True)
    before = {file.blob for file in listing.files if _is_held(shelf, file)}
    files = _of(listing.files, _index(hub, shelf, listing))
    size = sum(file.size for file in files)
    if wish.check:
        with show("checked", len(files), size) as shown:
            _remove_damaged(shelf, files, shown)
    missing = [file for file in files if not _is_held(shelf, file)]
    to_come = _to_come(shelf, missing)
    _check_room(shelf, to_come)
    with show("fetched", len(files), size) as shown:
        shown.had(size - to_come, len(files) - len(missing))
        _bring_all(_Order(hub, shelf, listing.commit), missing, shown)
    place = shelf.snapshot(listing.commit)
    whole = all(_has_size(place / file.path, file.size) for file in files)
    # A branch or tag is recorded by the pipeline's own way: without a network only that finds it.
    if not whole or shelf.commit(wish.revision) != listing.commit:
        _unlink_stale(place, files)
        place = settle()
    index = sum(file.size for file in files if file.path == INDEX and file.blob not in before)
    return Pulled(place, place.name, len(files), size, index + to_come)


def _index(hub: Hub, shelf: Shelf, listing: Listing) -> dict[str, Any]:
    """Return model_index.json, which says what belongs to the pipeline. Raises ModelTroubleError."""
    record = next((file for file in listing.files if file.path == INDEX), None)
    if record is None:
        raise ModelTroubleError(
            "unsupported",
            f"{hub.model} has no {INDEX}: it is no pipeline of diffusers. Choose a model that is.",
        )
    reader = Reader(lambda _: None, threading.Event())
    # Read every time, as it is small and all the rest follows from it.
    _remove_if_damaged(shelf, record, reader.note)
    download(hub, hub.address(listing.commit, INDEX), record, shelf.blobs, reader)
    index: dict[str, Any] = json.loads((shelf.blobs / record.blob).read_bytes())
    lacking = without_safetensors((file.path for file in listing.files), index)
    if lacking:
        raise ModelTroubleError(
            "unsupported",
            f"{hub.model} has no safetensors of {', '.join(lacking)}, and nothing else is loaded. "
            "Choose a model, or a revision, that has them.",
        )
    return index


def _remove_damaged(shelf: Shelf, files: list[Recorded], shown: Shown) -> None:
    for file in files:
        _remove_if_damaged(shelf, file, shown.note)
        shown.file()


def _remove_if_damaged(shelf: Shelf, file: Recorded, note: Callable[[int], None]) -> None:
    if not _is_held(shelf, file):
        return
    path, digest = shelf.blobs / file.blob, checksum(file)
    with path.open("rb") as opened:
        read_into(digest, opened, note)
    if digest.hexdigest() != file.blob:
        path.unlink()


def _unlink_stale(place: Path, files: list[Recorded]) -> None:
    """Remove what stands in a snapshot with another size: it would be taken for the file."""
    for file in files:
        path = place / file.path
        if not _has_size(path, file.size):
            path.unlink(missing_ok=True)


def _to_come(shelf: Shelf, missing: list[Recorded]) -> int:
    """Return how many bytes of files are not here yet."""
    partly = (unfinished(file, shelf.blobs) for file in missing)
    here = sum(path.stat().st_size for path in partly if path.is_file())
    return sum(file.size for file in missing) - here


def _check_room(shelf: Shelf, to_come: int) -> None:
    free = shutil.disk_usage(shelf.blobs).free
    if to_come > 0 and to_come + SPARE_BYTES > free:
        raise ModelTroubleError(
            "no_space",
            f"{in_units(to_come)} are to come, and {shelf.folder.parent} has {in_units(free)} free. "
            "Make room, or set HF_HOME to a folder on a larger disk.",
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """Where files come from and go to."""

    hub: Hub
    shelf: Shelf
    commit: str


def _bring_all(order: _Order, missing: list[Recorded], shown: Shown) -> None:
    """Bring files, some at once, the largest first."""
    reader = Reader(shown.note, threading.Event())

    def bring(file: Recorded) -> None:
        address = order.hub.address(order.commit, file.path)
        download(order.hub, address, file, order.shelf.blobs, reader)
        shown.file()

    # Two files with the same content are one blob.
    by_size = sorted(
        {file.blob: file for file in missing}.values(), key=lambda file: -file.size
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            ended, _ = wait(
                [pool.submit(bring, file) for file in by_size], None, FIRST_EXCEPTION
            )
        finally:
            # Ctrl-C as well: the threads leave at their next chunk.
            reader.stop.set()
            pool.shutdown(cancel_futures=True)
    for error in filter(None, (future.exception() for future in ended)):
        if not isinstance(error, StoppedError):
            raise error
