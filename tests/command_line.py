"""The command line `imagegen` as a process, in a folder of its own and with no settings but those told."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])
PATIENCE_S = 60.0


class CommandLine:
    """Runs `imagegen` as the chat backend, unless other settings are told."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self._settings = settings

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
        told = {**self._settings, **settings}
        return subprocess.Popen(
            [sys.executable, "-m", "consumer", *arguments],
            env={
                "PYTHONPATH": PATHS,
                "COLUMNS": "200",
                **{f"IMAGE_GEN_{name}": str(value) for name, value in told.items()},
            },
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
