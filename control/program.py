"""A long program: its output goes to a log, its last line is the progress, its end is judged."""

import os
import selectors
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from control.say import Failure, Tell
from control.state import rotate, tail


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is told when a program fails."""

    sentence: str
    remedy: str


def run_logged(
    command: Sequence[str],
    log: Path,
    tell: Tell,
    failing: Judgement,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run a program to its end, in a folder or the caller's.

    Raises:
        Failure: it ended with another code than 0.
    """
    rotate(log)
    with log.open("ab") as out:
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
            ) as program:
                # Always there, with stdout=PIPE.
                if program.stdout is not None:
                    with _ended_with_us(program):
                        _follow(program, program.stdout, out, tell)
        except FileNotFoundError as error:
            raise Failure(failing.sentence, failing.remedy, [str(error)]) from error
    if program.returncode != 0:
        raise Failure(failing.sentence, failing.remedy, [*tail(log, 12), f"(all of it: {log})"])


@contextmanager
def _ended_with_us(program: subprocess.Popen[bytes]) -> Iterator[None]:
    """Take the program along when we are interrupted; a second one must not meet the first."""
    try:
        yield
    except BaseException:
        # One that runs as root through sudo is not ours to end: it gets to its end.
        with suppress(PermissionError):
            program.terminate()
        raise


def _follow(
    program: subprocess.Popen[bytes], output: IO[bytes], log: IO[bytes], tell: Tell
) -> None:
    """Copy the output to the log and tell its last line, at least once a second.

    Ends with the output or with the program: what it left running may hold the output open.
    """
    last = "working"
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=1.0):
                chunk = os.read(output.fileno(), 65_536)
                if not chunk:
                    return
                log.write(chunk)
                log.flush()
                last = _last_line(chunk) or last
            elif program.poll() is not None:
                return
            tell(last)


def _last_line(chunk: bytes) -> str:
    lines = [line.strip() for line in chunk.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
