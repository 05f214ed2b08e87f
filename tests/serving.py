"""A real service for tests: `imagegen serve` as a process, watched through its log."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
IDLE_WITHIN_S = 10.0


class Served:
    """One service process. `wait` returns the first record with an event, new or already seen."""

    _port = None

    def __init__(self, settings):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("IMAGE_GEN_")
        }
        environment |= {f"IMAGE_GEN_{name}": str(value) for name, value in settings.items()}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(ROOT / "clients" / "python")]
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consumer", "serve"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        self.records = []
        self.lines = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line)
                if line.startswith("{"):
                    self.records.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait(self, event, count=1, **fields):
        """Return the `count`-th record of this event with these fields."""

        def found():
            hits = [
                record
                for record in self.records
                if record.get("event") == event
                and all(record.get(name) == value for name, value in fields.items())
            ]
            return hits[count - 1] if len(hits) >= count else None

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, PATIENCE_S)
            record = found()
        assert record is not None, f"no {event} {fields} in:\n{''.join(self.lines)}"
        return record

    def wait_ready(self):
        """Wait until it consumes; returns itself."""
        self.wait("broker_connected")
        return self

    def forget(self):
        """Have `wait` see only what comes from now on; where it listens stays known."""
        self.port  # noqa: B018 - remembered by looking
        with self._news:
            self.records, self.lines = [], []

    @property
    def port(self):
        if self._port is None:
            self._port = self.wait("http_listening")["port"]
        return self._port

    def get(self, path):
        """Return status, headers and body of a page."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=10
            ) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def health(self):
        return json.loads(self.get("/health")[2])

    def wait_idle(self):
        """Return once it is ready and has nothing in hand; False if it takes too long, or ended."""
        until = time.monotonic() + IDLE_WITHIN_S
        while self.process.poll() is None and time.monotonic() < until:
            health = self.health()
            if health["ready"] and not health["work"]["in_hand"]:
                return True
            time.sleep(0.01)
        return False

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """As a power cut would, for it and not for its child: the child must see for itself."""
        self.process.kill()
        self.end()

    def stop(self):
        """Ask it to stop; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self):
        """Wait for its end; returns the exit code."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self._bury()
            raise AssertionError("it does not stop:\n" + "".join(self.lines)) from None
        self._bury()
        return code

    def _bury(self):
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.process.stderr.close()
