"""The services: consumers as processes, watched through their log, and what they hold in resources."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.chaos.consumer_process import STALL_VARIABLE, TASKS_VARIABLE
from tests.serving import ROOT, Served

PATIENCE_S = 20.0
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Resources:
    """What a service holds."""

    pid: int
    descriptors: int
    tasks: int
    rss: int
    """Bytes of resident memory."""


class Consumer(Served):
    """A consumer started by way of `bench.chaos.consumer_process`."""

    def __init__(self, settings: Mapping[str, object], folder: Path, stall_s: float) -> None:
        self._tasks = folder / "tasks"
        self._log = folder / "service.log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("IMAGE_GEN_")
        }
        environment |= {f"IMAGE_GEN_{name}": str(value) for name, value in settings.items()}
        environment |= {
            "PYTHONPATH": str(ROOT),
            STALL_VARIABLE: str(stall_s),
            TASKS_VARIABLE: str(self._tasks),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.consumer_process"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resources(self) -> Resources:
        """Return what it holds now. Blocks until it has counted its tasks.

        Raises:
            TimeoutError: its event loop stands still, or it ended.
        """
        self._tasks.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        until = time.monotonic() + PATIENCE_S
        while not self._tasks.exists():
            if time.monotonic() > until or not self.running:
                raise TimeoutError("its event loop stands still, or it ended")
            time.sleep(LOOK_EVERY_S)
        process = psutil.Process(self.process.pid)
        return Resources(
            self.process.pid,
            process.num_fds(),
            int(self._tasks.read_text()),
            process.memory_info().rss,
        )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def drop(self) -> None:
        """End whatever is left of it, its GPU child included, and leave its log in the folder."""
        if self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
        if not self.process.stderr.closed:
            self.end()
        with self._log.open("a") as file:
            file.writelines(self.lines)
        self.lines = []
