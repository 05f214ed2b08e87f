"""The virtual environment: made, filled to the pinned versions, and left alone when it fits."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from control import apt, torch_build
from control.pip import Pip
from control.program import Judgement, run_logged
from control.say import Failure, Progress
from control.state import Clone, read_record, write_private
from control.torch_build import Variant

Extra = Literal["client", "service", "dev"]
"""Each holds what stands before it."""

_LEVELS: tuple[Extra, ...] = get_args(Extra)
_BRACKETS: dict[Extra, str] = {"client": "", "service": "[service]", "dev": "[service,dev]"}


class Venv:
    """The virtual environment of a clone, with a stamp that tells what was put into it."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone
        self._stamp = clone.venv / "imagegen.json"

    def fits(self, extra: Extra) -> bool:
        """Tell within a millisecond, from the stamp, whether there is nothing to do."""
        stamp = read_record(self._stamp)
        wanted = torch_build.wanted_variant() or stamp.get("variant")
        return (
            stamp.get("inputs") == self._inputs()
            and _level(stamp) >= _LEVELS.index(extra)
            and stamp.get("variant") == wanted
            and self._clone.python.exists()
        )

    @property
    def variant(self) -> Variant:
        """What torch was installed for."""
        return _variant(read_record(self._stamp)) or "cpu"

    def ensure(self, extra: Extra, *, look_again: bool = False) -> None:
        """Make it hold an extra; what it holds already is kept up, never taken away.

        With `look_again` the machine is asked for its accelerator even where the stamp fits.
        """
        stamp = read_record(self._stamp)
        if look_again or not self.fits(extra):
            variant = torch_build.wanted_variant() or torch_build.guess_variant()
            if variant != _variant(stamp) or not self.fits(extra):
                at_least = max(_level(stamp), _LEVELS.index(extra))
                self._fill(_LEVELS[at_least], variant, moved=self._was_moved(stamp))

    def _fill(self, extra: Extra, variant: Variant, *, moved: bool) -> None:
        title = (
            f"Setting up .venv ({extra}{'' if extra == 'client' else f', torch for {variant}'})"
        )
        with Progress(title) as progress:
            pip = Pip(self._clone, progress.tell)
            self._make(pip, progress, moved=moved)
            # From here to the new stamp it is half one thing and half another.
            self._stamp.unlink(missing_ok=True)
            constraints = self._clone.root / "constraints.txt"
            if extra != "client":
                torch_build.install(
                    pip, self._clone.venv, variant, torch_build.pinned(constraints)
                )
            pip.install("-c", str(constraints), *self._editable(extra))
            pip.forget_downloads()
        stamp = {
            "extra": extra,
            "variant": variant,
            "root": str(self._clone.root),
            "inputs": self._inputs(),
        }
        write_private(self._stamp, json.dumps(stamp, indent=1))

    def _make(self, pip: Pip, progress: Progress, *, moved: bool) -> None:
        """Make it if it is missing, repair it if it was left half-made."""
        if not moved and pip.works():
            return
        self._require_ensurepip()
        # A moved clone's programs name the old folder in their first line: all is made anew.
        options = ["--clear"] if moved else []
        run_logged(
            # Not the one that may run this: it lies in the folder that is made.
            [
                str(Path(sys.executable).resolve()),
                "-m",
                "venv",
                *options,
                str(self._clone.venv),
            ],
            self._clone.log("pip"),
            progress.tell,
            Judgement(
                "A virtual environment could not be made in .venv.",
                "Debian, Ubuntu: sudo apt-get install python3-venv. Or remove .venv if it is broken.",
            ),
        )
        if not pip.works():
            raise Failure(
                "The pip in .venv does not start.", "Remove .venv and run this again."
            )

    def _require_ensurepip(self) -> None:
        """Debian packs what makes virtual environments separately from its Python."""
        if importlib.util.find_spec("ensurepip") is None and sys.base_prefix == "/usr":
            package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
            apt.install(package, self._clone, f"Install it: sudo apt-get install {package}")

    def _editable(self, extra: Extra) -> list[str]:
        root = self._clone.root
        return ["-e", str(root / "clients" / "python"), "-e", f"{root}{_BRACKETS[extra]}"]

    def _was_moved(self, stamp: dict[str, Any]) -> bool:
        return bool(stamp) and stamp.get("root") != str(self._clone.root)

    def _inputs(self) -> str:
        """Return a hash of all that decides what is installed, but extra and variant."""
        digest = hashlib.sha256(str(self._clone.root).encode())
        for name in ("constraints.txt", "pyproject.toml", "clients/python/pyproject.toml"):
            digest.update((self._clone.root / name).read_bytes())
        return digest.hexdigest()


def _level(stamp: dict[str, Any]) -> int:
    return _LEVELS.index(stamp["extra"]) if stamp.get("extra") in _LEVELS else -1


def _variant(stamp: dict[str, Any]) -> Variant | None:
    return next((name for name in get_args(Variant) if name == stamp.get("variant")), None)
