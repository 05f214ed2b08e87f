"""The hub's cache on this machine: where the files of a model lie, and what is recorded of them.

The layout is huggingface_hub's: `models--owner--name/` with `refs/` (names of commits), `snapshots/`
(a folder a commit, of links), `blobs/` (files named by their checksum) and `trees/` (the hub's own
listing of a commit).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from consumer.models.selection import Recorded

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256_DIGITS = 64
DEFAULT_REVISION = "main"


def is_commit(revision: str | None) -> bool:
    """Whether a revision says for ever which files are meant."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


@dataclass(frozen=True, slots=True)
class Shelf:
    """The place of one model in the cache."""

    folder: Path

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    def commit(self, revision: str | None) -> str | None:
        """Return the commit that a revision was when it was last asked for; None if it never was."""
        name = revision or DEFAULT_REVISION
        if is_commit(name):
            return name
        try:
            return (self.folder / "refs" / name).read_text(encoding="utf-8").strip()
        except OSError:
            return None

    def snapshot(self, commit: str) -> Path:
        """Return the folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def listing(self, commit: str) -> list[Recorded] | None:
        """Return what the hub has told of a commit's files; None if that was not kept."""
        try:
            tree = json.loads((self.folder / "trees" / f"{commit}.json").read_bytes())
            return [
                Recorded(
                    path=path,
                    size=file["lfs_size"] if "lfs_sha256" in file else file["size"],
                    blob_id=file["blob_id"],
                    sha256=file.get("lfs_sha256"),
                )
                for path, file in tree["files"].items()
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Not kept, or by a release that writes it otherwise: the names of blobs are left.
            return None

    def linked(self, commit: str) -> list[Recorded]:
        """Return the files of a commit that are here, by the checksums that name their blobs."""
        folder = self.snapshot(commit)
        return [
            _by_link(path, str(path.relative_to(folder)))
            for path in sorted(folder.rglob("*"))
            if path.is_file() or path.is_symlink()
        ]


def _by_link(path: Path, name: str) -> Recorded:
    """Tell a file by its link; without one, as on a disk without links, nothing is known of it."""
    blob = path.readlink().name if path.is_symlink() else ""
    size = path.stat().st_size if path.is_file() else 0
    if len(blob) == _SHA256_DIGITS:
        return Recorded(name, size, "", blob)
    return Recorded(name, size, blob)


def shelf_of(model: str) -> Shelf:
    """Return where a model of the hub lies, or will."""
    # Imported here: a command line without the service has no hub.
    from huggingface_hub import constants  # noqa: PLC0415

    return Shelf(Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}")
