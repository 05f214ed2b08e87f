"""The verdicts on the model and what is written: its files, the cache, the data folder, versions. Pure."""

from collections.abc import Sequence

from consumer.doctor.machine import Folder
from consumer.doctor.model import ModelFound
from consumer.doctor.store import StoreFound
from consumer.doctor.verdict import Verdict, fail, ok, warn
from consumer.doctor.versions import Installed

GIB = 1 << 30
DOWNLOAD_BYTES = 33 * GIB
"""Of Z-Image-Turbo, the largest that is the default; others are not known before."""
MISSING_MOST = 3
"""Files of a list that are named."""


def judge_model(found: ModelFound, model: str) -> Verdict:
    """The model's files are here and complete, or can be fetched."""
    if found.source == "builtin":
        return ok("model", "Built in: a small one, for simple scenes.")
    if found.place and not found.missing:
        return ok("model", f"{model} is in {found.place}.")
    if found.place:
        named = ", ".join(found.missing[:MISSING_MOST])
        remedy = "copy the folder again, or give the id of a model on the hub"
        return fail("model", f"{found.place} lacks {named}.", remedy)
    if found.hub_problem is not None:
        remedy = "check IMAGE_GEN_MODEL and the way to the hub, or give a folder"
        return fail("model", f"{model} is not here, and {found.hub_problem}.", remedy)
    return warn(
        "model",
        f"{model} is not here; the first start downloads it.",
        "let the first start take its time",
    )


def judge_cache(found: ModelFound) -> Verdict:
    """There is a folder, and room in it, for what is to be downloaded."""
    cache = found.cache
    if cache is None or (found.place and not found.missing):
        return ok("cache", "Nothing is to be downloaded.")
    if not cache.writable:
        return fail(
            "cache",
            f"{cache.path} cannot be written.",
            "give it to the service's user, or set HF_HOME to a folder that is",
        )
    told = f"{cache.path} has {cache.free_bytes / GIB:.0f} GiB free"
    if cache.free_bytes < DOWNLOAD_BYTES:
        remedy = "make room, or set HF_HOME to a folder on a larger disk"
        return fail("cache", f"{told}; the model may take {DOWNLOAD_BYTES / GIB:.0f}.", remedy)
    return ok("cache", f"{told}.")


def judge_store(found: StoreFound, result_max_bytes: int) -> Verdict:
    """Jobs and results can be kept."""
    if not found.kind:
        return fail("store", found.problem or "", "correct IMAGE_GEN_STORE_URL")
    if found.problem is not None:
        remedy = "start the database, or correct IMAGE_GEN_STORE_URL"
        return fail("store", f"The {found.kind} store does not answer: {found.problem}", remedy)
    if found.place is None:
        return ok("store", f"The {found.kind} store answers.")
    return _judge_place(found.place, result_max_bytes)


def _judge_place(place: Folder, result_max_bytes: int) -> Verdict:
    if not place.writable:
        remedy = "give it to the service's user, or set IMAGE_GEN_DATA_DIR"
        return fail("store", f"{place.path} cannot be written.", remedy)
    told = f"{place.path} has {place.free_bytes / GIB:.1f} GiB free"
    if place.free_bytes < result_max_bytes:
        return warn(
            "store",
            f"{told}; results may take {result_max_bytes / GIB:.1f}.",
            "make room, or lower IMAGE_GEN_RESULT_MAX_BYTES",
        )
    return ok("store", f"{told}.")


def judge_versions(installed: Sequence[Installed]) -> Verdict:
    """What is installed is what this release was made for."""
    wrong = [package for package in installed if not package.fits]
    if not wrong:
        return ok("versions", f"{len(installed)} packages are as this release wants them.")
    named = ", ".join(
        f"{package.name} {package.version or 'is missing'} (wanted {package.wanted or 'any'})"
        for package in wrong
    )
    remedy = "./control.sh setup service, or pip install -c constraints.txt 'imagegen[service]'"
    return fail("versions", f"{named}.", remedy)
