"""The hub: what it lists of a model, and why it does not; the addresses of files."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import httpx

from consumer.models.cache import DEFAULT_REVISION, is_commit
from consumer.models.selection import Recorded
from consumer.models.trouble import ModelTroubleError

ASK_S = 30.0
"""Seconds to wait for any word of the hub."""
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHECK = "Check IMAGE_GEN_MODEL and IMAGE_GEN_MODEL_REVISION."
_AUTHENTICATE = "Set HF_TOKEN to a token that may read it"


@dataclass(frozen=True, slots=True)
class Listing:
    """A commit of a model and all its files."""

    commit: str
    files: list[Recorded]


class Hub:
    """The hub that HF_ENDPOINT names, spoken to with HF_TOKEN where there is one."""

    def __init__(self, model: str) -> None:
        # Imported here: a command line without the service has no hub.
        from huggingface_hub import constants, get_token  # noqa: PLC0415

        self.model = model
        self.endpoint = constants.ENDPOINT
        self.offline = constants.HF_HUB_OFFLINE
        token = get_token()
        self.client = httpx.Client(
            headers={
                "User-Agent": "imagegen",
                "Accept-Encoding": "identity",
                # httpx leaves it off where the hub sends us to a machine elsewhere.
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            timeout=ASK_S,
            follow_redirects=True,
        )

    def close(self) -> None:
        """Leave the hub."""
        self.client.close()

    def listing(self, revision: str | None) -> Listing:
        """Ask for the commit of a revision and its files. Raises ModelTroubleError."""
        if self.offline:
            raise ModelTroubleError(
                "offline",
                f"{self.model} is not here, and HF_HUB_OFFLINE is set. Unset it once.",
            )
        page = f"{self.endpoint}/api/models/{quote(self.model)}"
        page += f"/revision/{quote(revision or DEFAULT_REVISION, '')}"
        try:
            answer = self.client.get(page, params={"blobs": "true"})
        except httpx.HTTPError as error:
            raise self.unreachable(error) from error
        if not answer.is_success:
            raise self.refused(answer)
        try:
            told = answer.json()
            return _listed(told["sha"], told["siblings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelTroubleError(
                "unreachable",
                f"{self.endpoint} answers in a way that is not the hub's. Check HF_ENDPOINT.",
            ) from error

    def address(self, commit: str, path: str) -> str:
        """Return where a file is had."""
        return f"{self.endpoint}/{quote(self.model)}/resolve/{commit}/{quote(path)}"

    def unreachable(self, error: Exception) -> ModelTroubleError:
        """Return the trouble of a hub that does not answer."""
        reason = str(error) or type(error).__name__
        return ModelTroubleError(
            "unreachable",
            f"{self.endpoint} cannot be reached ({reason}). Check the network, HF_ENDPOINT and "
            "the proxy's variables; what has come so far is kept.",
        )

    def refused(self, answer: httpx.Response) -> ModelTroubleError:
        """Return the trouble that an answer of the hub means."""
        code = answer.headers.get("X-Error-Code", "")
        if code == "GatedRepo":
            page = f"{self.endpoint}/{self.model}"
            return ModelTroubleError(
                "gated",
                f"{self.model} is given to those who asked for it on {page}. {_AUTHENTICATE}.",
            )
        if code == "RevisionNotFound":
            return ModelTroubleError(
                "not_found", f"{self.model} has no such revision. {_CHECK}"
            )
        if code == "RepoNotFound" or answer.status_code == 404:
            return ModelTroubleError(
                "not_found",
                f"{self.endpoint} has no model {self.model}, or none that may be seen. {_CHECK} "
                f"{_AUTHENTICATE} if it is private.",
            )
        if answer.status_code in {401, 403}:
            return ModelTroubleError(
                "unauthorized",
                f"{self.endpoint} gives out {self.model} to others only. {_AUTHENTICATE}.",
            )
        return self.unreachable(ConnectionError(f"it answers {answer.status_code}"))


def _listed(commit: str, files: list[dict[str, object]]) -> Listing:
    """Return what a hub tells. Raises ValueError, KeyError or TypeError for what is no such thing."""
    if not is_commit(commit):
        raise ValueError("sha")
    return Listing(commit, [_recorded(file) for file in files])


def _recorded(file: dict[str, object]) -> Recorded:
    lfs = file.get("lfs")
    size, sha256 = file["size"], None
    if isinstance(lfs, dict):
        size, sha256 = lfs["size"], str(lfs["sha256"])
    if not isinstance(size, int):
        raise TypeError("size")
    record = Recorded(str(file["rfilename"]), size, str(file["blobId"]), sha256)
    # They become names of files here, which a hub that means us ill would have elsewhere.
    path = PurePosixPath(record.path)
    if not _CHECKSUM.fullmatch(record.blob) or path.is_absolute() or ".." in path.parts:
        raise ValueError("name")
    return record
