"""The supervisor: keeps a program running, restarts it with growing pauses, ends it in order."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from control.say import note
from control.state import Process, write_private

CONFIGURATION_ERROR = 78
"""The exit code of a program that would fail again with these settings (EX_CONFIG)."""

FORCE_S = 10.0
"""Seconds beyond its own for a program that was asked to end, until it is asked again and killed."""

_LONGEST_PAUSE_S = 30.0
_RAN_WELL_S = 60.0


class Supervisor:
    """Runs one program until it ends for good or a signal asks for the end.

    `record` tells others the process that runs now and how often it was started again; at the end,
    the code that it left with.
    """

    def __init__(
        self,
        command: Sequence[str],
        record: Path,
        drain_s: float,
        first_pause_s: float = 1.0,
        force_s: float = FORCE_S,
    ) -> None:
        self._command = command
        self._record = record
        self._drain_s = drain_s
        self._first_pause_s = first_pause_s
        self._force_s = force_s
        self._signals, wake = os.pipe()
        os.set_blocking(wake, False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            # Python writes a number into the pipe only for signals that have a handler.
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake)

    def run(self) -> int:
        """Return the code with which the program ended for good, 0 if it was asked to end."""
        pause_s, restarts = self._first_pause_s, 0
        while True:
            began = time.monotonic()
            code = self._run_once(restarts)
            if code is None or code in {0, CONFIGURATION_ERROR}:
                write_private(self._record, json.dumps({"code": code or 0}))
                return code or 0
            if time.monotonic() - began > _RAN_WELL_S:
                pause_s = self._first_pause_s
            note(
                f"control.sh: the service ended with {code}; it is started again in {pause_s:g} s"
            )
            if self._asked_to_end(pause_s):
                write_private(self._record, json.dumps({"code": code}))
                return 0
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            restarts += 1

    def _run_once(self, restarts: int) -> int | None:
        """Run the program; None if a signal ended it, else its code."""
        with subprocess.Popen(self._command, stdin=subprocess.DEVNULL) as program:
            process = Process.of(program.pid)
            if process is not None:
                process.write(self._record, restarts=restarts)
            while program.poll() is None:
                if self._asked_to_end(None):
                    self._end(program)
                    return None
            return program.returncode

    def _end(self, program: subprocess.Popen[bytes]) -> None:
        """Ask it to finish its work, then to leave at once, then leave it no choice."""
        for patience_s in (self._drain_s + self._force_s, self._force_s):
            program.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(patience_s)
                return
        program.kill()

    def _asked_to_end(self, patience_s: float | None) -> bool:
        """Wait for a signal; tell whether it asks for the end. The end of a child wakes it too."""
        deadline = None if patience_s is None else time.monotonic() + patience_s
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._signals], [], [], left)[0]:
                return False
            received = set(os.read(self._signals, 64))
            if received & {signal.SIGTERM, signal.SIGINT}:
                return True
            if deadline is None:
                return False


def patience_s(drain_s: float) -> float:
    """Return how long a supervisor may take to end its program, in seconds."""
    return drain_s + 2 * FORCE_S + 5
