"""The state of a clone: where its things lie, which processes are its own, who may change it."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from control.say import note

LOG_LIMIT_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Clone:
    """The places of one clone; all that control.sh writes lies in them."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def state(self) -> Path:
        return self.root / ".imagegen"

    @property
    def broker(self) -> Path:
        return self.state / "rabbitmq"

    @property
    def cache(self) -> Path:
        return self.state / "cache"

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def log(self, name: str) -> Path:
        """Return the path of a log, its folder made."""
        return _made(self.state / "log") / f"{name}.log"

    def record(self, name: str) -> Path:
        """Return the path of a record of what runs, its folder made."""
        return _made(self.state / "run") / f"{name}.json"

    def revision(self) -> str:
        """Return the commit that is checked out, empty where git tells none."""
        answer = self._git("rev-parse", "HEAD")
        return "" if answer is None else answer.stdout.strip()

    def changed_since(self, commit: str, *paths: str) -> bool:
        """Tell whether files differ from a commit's; not where git cannot tell."""
        answer = self._git("diff", "--quiet", commit, "--", *paths)
        return answer is not None and answer.returncode == 1

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[str] | None:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the clone's lock: one at a time sets up, starts and stops."""
        with (_made(self.state / "run") / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note("Another control.sh is at work in this clone; waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the process that has this number now; None where there is none."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def recorded(cls, path: Path) -> Self | None:
        """Return the process of a record if it still runs."""
        record = read_record(path)
        pid, started = record.get("pid"), record.get("started")
        if not isinstance(pid, int) or not isinstance(started, str):
            return None
        process = cls(pid, started)
        return process if process.alive() else None

    def alive(self) -> bool:
        return _started(self.pid) == self.started

    def write(self, path: Path, **more: object) -> None:
        """Record it, with whatever else belongs to it."""
        write_private(path, json.dumps({**asdict(self), **more}, indent=1))


def _started(pid: int) -> str | None:
    """Return what tells a process from others that had or will have its number.

    A zombie counts as gone: it holds nothing and only waits for its parent to look.
    """
    if not sys.platform.startswith("linux"):
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        stat, _, start = subprocess.run(
            command, capture_output=True, text=True, check=False
        ).stdout.partition(" ")
        return None if not start or stat.startswith("Z") else start.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name in brackets, which may itself hold blanks and brackets.
    state, *rest = fields.rpartition(")")[2].split()
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {rest[18]}"


def read_record(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file; an empty one where the file is missing or broken."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def tail(path: Path, lines: int, since: int = 0) -> list[str]:
    """Return the last lines of a log after a byte; none where there is no log."""
    try:
        with path.open("rb") as log:
            log.seek(max(since, path.stat().st_size - 64 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def rotate(path: Path) -> None:
    """Put a log that has grown large aside, in the place of the one before it."""
    if path.is_file() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
