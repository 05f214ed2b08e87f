"""The command line `imagegen` as a process, in a folder of its own and with no settings but those told."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from consumer.__main__ import app

ROOT = Path(__file__).resolve().parent.parent
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])
PATIENCE_S = 60.0


class CommandLine:
    """Runs `imagegen` as the chat backend, unless other settings are told."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self._settings = settings

    def here(self, *arguments, **settings):
        """Run it to its end in this process, which is quicker by a second; needs its folder."""
        ran = CliRunner(env={"COLUMNS": "200", **self._environment(settings)}).invoke(
            app, arguments
        )
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return subprocess.CompletedProcess(arguments, ran.exit_code, ran.stdout, ran.stderr)

    def __call__(self, *arguments, **settings):
        """Run it to its end."""
        process = self.start(*arguments, **settings)
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def start(self, *arguments, **settings):
        """Begin to run it."""
        return subprocess.Popen(
            [sys.executable, "-m", "consumer", *arguments],
            env={
                "PYTHONPATH": PATHS,
                "COLUMNS": "200",
                **self._environment(settings),
            },
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _environment(self, settings):
        told = {**self._settings, **settings}
        return {f"IMAGE_GEN_{name}": str(value) for name, value in told.items()}
