"""The commands at the model's files: what they print, and what they exit with."""

import json
import logging
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from consumer.cli import (
    EXIT_CANNOT_CREATE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_ALLOWED,
    EXIT_TRY_AGAIN,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    console_of,
)
from consumer.gpu import builtin
from consumer.models.cache import is_commit
from consumer.models.classes import class_problems
from consumer.models.pull import Pulled, Wish, pull
from consumer.models.shown import Shown, in_units
from consumer.models.trouble import Code, ModelTroubleError
from consumer.models.verify import Checked, Whole, check, find_in_cache, find_in_folder
from consumer.settings import Settings

_EXITS: dict[Code, int] = {
    "not_found": EXIT_USAGE,
    "unsupported": EXIT_USAGE,
    "gated": EXIT_NOT_ALLOWED,
    "unauthorized": EXIT_NOT_ALLOWED,
    "offline": EXIT_UNAVAILABLE,
    "unreachable": EXIT_TRY_AGAIN,
    "corrupt": EXIT_TRY_AGAIN,
    "no_space": EXIT_CANNOT_CREATE,
    "not_writable": EXIT_CANNOT_CREATE,
}
"""By the trouble's code, after sysexits.h."""

Show = Callable[[str, int, int], Shown]


def pull_model(settings: Settings, *, check: bool, as_json: bool) -> int:
    """Fill the cache with the model of the settings. Returns the exit code."""
    return _carry_out(lambda: _pull(settings, check=check, as_json=as_json), as_json=as_json)


def verify_model(settings: Settings, *, as_json: bool) -> int:
    """Prove that the model of the settings is whole. Returns the exit code."""
    return _carry_out(lambda: _verify(settings, as_json=as_json), as_json=as_json)


def _carry_out(command: Callable[[], int], *, as_json: bool) -> int:
    _quieten()
    # As the first process of a container it would otherwise not hear that it is to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command()
    except ModelTroubleError as error:
        if as_json:
            print(json.dumps({"error": error.code, "message": error.message}))  # noqa: T201
        else:
            console_of(stderr=True).print(f"{error.code}: {error.message}", soft_wrap=True)
        return _EXITS[error.code]
    except KeyboardInterrupt:
        told = "Interrupted. What has come is kept: the next pull goes on from there."
        console_of(stderr=True).print(told)
        return EXIT_INTERRUPTED


def _quieten() -> None:
    """Have the hub's library tell by its errors only: no bars, and nothing of every try."""
    # Imported here: a command line without the service has no hub.
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _show(verb: str, files: int, size: int) -> Shown:
    return Shown(console_of(stderr=True), verb, files, size)


# ---------------------------------------------------------------- pull


def _pull(settings: Settings, *, check: bool, as_json: bool) -> int:
    console = console_of(stderr=False)
    if (place := _without_hub(settings)) is not None:
        told = f"Nothing to pull: {place}"
        print(json.dumps({"model": settings.model, "fetched": 0}) if as_json else told)  # noqa: T201
        return 0
    wish = Wish(settings.model, settings.model_revision, check)
    pulled = pull(wish, _show, lambda: _settle(settings))
    if as_json:
        facts = {"model": settings.model, **asdict(pulled), "place": str(pulled.place)}
        print(json.dumps(facts))  # noqa: T201
    else:
        _tell_pulled(pulled, settings, console)
    return 0


def _without_hub(settings: Settings) -> str | None:
    """Return a sentence on a model that does not come from the hub; None if it does."""
    if settings.model == builtin.NAME:
        return "the built-in model comes with the service."
    if Path(settings.model).is_dir():
        return f"{settings.model} is a folder."
    if Path(settings.model).is_absolute() or settings.model.startswith("."):
        raise ModelTroubleError(
            "not_found", f"There is no folder {settings.model}. Check IMAGE_GEN_MODEL."
        )
    return None


def _settle(settings: Settings) -> Path:
    """Have the pipeline itself take what was fetched, the way that the service will."""
    # Imported here: with it come torch and diffusers, which take seconds.
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    from consumer.gpu.model import fetch  # noqa: PLC0415
    from consumer.gpu.pipeline import LoadError  # noqa: PLC0415
    from consumer.gpu.protocol import Load  # noqa: PLC0415

    command = Load(
        pipeline=settings.pipeline,
        model=settings.model,
        revision=settings.model_revision,
        device=settings.device,
        memory=settings.memory,
        data_dir=str(settings.data_dir),
    )
    try:
        return fetch(command, lambda _: None)[0]
    except (LoadError, HfHubHTTPError) as error:
        raise ModelTroubleError("unreachable", str(error)) from error


def _tell_pulled(pulled: Pulled, settings: Settings, console: Console) -> None:
    console.print(str(pulled.place), style="bold", soft_wrap=True)
    console.print(
        f"  {settings.model} at {pulled.commit}: {pulled.files} files, {in_units(pulled.size)}, "
        f"{in_units(pulled.fetched)} of them fetched now",
        soft_wrap=True,
    )
    if pulled.hub_problem is not None:
        told = f"  It is all here; whether there is a newer one could not be asked. {pulled.hub_problem}"
        console.print(told, soft_wrap=True)
    elif not is_commit(settings.model_revision):
        hint = f"  IMAGE_GEN_MODEL_REVISION={pulled.commit} keeps this one"
        console.print(hint, soft_wrap=True)


# ---------------------------------------------------------------- verify


def _verify(settings: Settings, *, as_json: bool) -> int:
    whole = _find(settings)
    console = console_of(stderr=False)
    found = []
    for checked in check(whole, _show):
        found.append(checked)
        _tell_file(checked, console, as_json=as_json)
    broken = [checked for checked in found if checked.problem is not None]
    # Classes are looked up by files that can be read.
    problems = [] if broken else class_problems(whole.place)
    _tell_whole(settings, whole, found, problems, as_json=as_json)
    return EXIT_FAILED if broken or problems else 0


def _find(settings: Settings) -> Whole:
    """Return where the model is."""
    if settings.model == builtin.NAME:
        return find_in_folder(builtin.FOLDER, builtin.REVISION)
    if _without_hub(settings) is not None:
        return find_in_folder(Path(settings.model), "local")
    return find_in_cache(settings.model, settings.model_revision)


def _tell_file(checked: Checked, console: Console, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(checked)))  # noqa: T201
    elif checked.problem is not None:
        console.print(f"{checked.file} {checked.problem}", style="red", soft_wrap=True)


def _tell_whole(
    settings: Settings,
    whole: Whole,
    found: list[Checked],
    problems: list[str],
    *,
    as_json: bool,
) -> None:
    broken = sum(checked.problem is not None for checked in found)
    size = sum(checked.size for checked in found)
    if as_json:
        facts = {
            "model": settings.model,
            "revision": whole.revision,
            "place": str(whole.place),
            "files": len(found),
            "bytes": size,
            "broken": broken,
            "problems": problems,
            "whole": not broken and not problems,
        }
        print(json.dumps(facts))  # noqa: T201
        return
    console = console_of(stderr=False)
    for problem in problems:
        console.print(problem, style="red", soft_wrap=True)
    console.print(_verdict(settings, whole, found), soft_wrap=True)
    if broken:
        console.print(f"  -> {_remedy(settings)}", soft_wrap=True)


def _verdict(settings: Settings, whole: Whole, found: list[Checked]) -> str:
    broken = sum(checked.problem is not None for checked in found)
    by_checksum = sum(checked.proof in {"sha256", "git"} for checked in found)
    told = f"{settings.model} at {whole.revision} in {whole.place}: "
    if broken:
        return told + f"{broken} of {len(found)} files are not whole"
    size = in_units(sum(checked.size for checked in found))
    return told + f"{len(found)} files, {size}, {by_checksum} by their checksums"


def _remedy(settings: Settings) -> str:
    if settings.model == builtin.NAME:
        return "install the service again, or in a clone: git restore consumer/gpu/builtin"
    if Path(settings.model).is_dir():
        return "copy the folder again"
    return "imagegen model pull --check"
