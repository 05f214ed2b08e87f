"""The pip of the virtual environment: what it is asked, and where it leaves its files."""

import json
import os
import shutil
import subprocess

from control.program import Judgement, run_logged
from control.say import Failure, Tell
from control.state import Clone

_FAILED = Judgement(
    "pip could not install what is needed.",
    "Mostly that is the network or a full disk. Put it right and run the same command again: it"
    " goes on where it stopped. A mirror is set as for any pip: pip config set global.index-url URL",
)


class Pip:
    """Installs into a clone's virtual environment, writing nowhere else."""

    def __init__(self, clone: Clone, tell: Tell) -> None:
        self._clone = clone
        self._tell = tell
        self._temporary = clone.cache / "tmp"

    def works(self) -> bool:
        """Tell whether the virtual environment has a pip that starts."""
        command = [str(self._clone.python), "-m", "pip", "--version"]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    def install(self, *arguments: str) -> None:
        # Python compiles what is imported; pip would compile all of torch and transformers.
        options = ("--progress-bar", "off", "--no-compile")
        command = self._command("install", *options, *arguments)
        run_logged(command, self._clone.log("pip"), self._tell, _FAILED, self._environment())

    def versions(self, package: str) -> list[str]:
        """Return the versions that pip's own configuration leads to, the highest first.

        Nothing is downloaded, as even a dry run of an installation would: torch is gigabytes.
        """
        answer = subprocess.run(
            self._command("index", "versions", package),
            capture_output=True,
            text=True,
            env=self._environment(),
            check=False,
        )
        for line in answer.stdout.splitlines():
            if line.startswith("Available versions:"):
                return line.partition(":")[2].replace(" ", "").split(",")
        return []

    def requirements(self, package: str) -> list[str]:
        """Return what an installed package requires, as pip takes it."""
        program = (
            "import importlib.metadata as m, json, sys;"
            "print(json.dumps(m.requires(sys.argv[1]) or []))"
        )
        command = [str(self._clone.python), "-I", "-c", program, package]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise Failure(
                f"{package} was installed but is not found.", "Remove .venv; run it again."
            )
        return [str(requirement) for requirement in json.loads(answer.stdout)]

    def forget_downloads(self) -> None:
        """Remove what only helps to go on after an interruption; wheels of torch are gigabytes."""
        shutil.rmtree(self._clone.cache / "pip", ignore_errors=True)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._clone.python), "-m", "pip", *arguments]

    def _environment(self) -> dict[str, str]:
        self._temporary.mkdir(parents=True, exist_ok=True)
        ours = {
            "PIP_CACHE_DIR": str(self._clone.cache / "pip"),
            "TMPDIR": str(self._temporary),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # Installing for root is what a container does; the warning scares for nothing.
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        return ours | os.environ
