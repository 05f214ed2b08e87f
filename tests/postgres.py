"""A real PostgreSQL of the test's own: it is killed, frozen and restarted like any other."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

PATIENCE_S = 60


def _programs():
    """The folder of Debian's newest server, or of the one on the path."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: float(found.parent.name)
    )
    if folders:
        return folders[-1]
    found = shutil.which("initdb")
    assert found, "no PostgreSQL server: install the package postgresql"
    return Path(found).parent


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """One server on loopback, with its own folder and port."""

    def __init__(self, connections=40):
        self.port = _free_port()
        self._connections = connections
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="imagegen-postgresql-"))
        self._data = self._folder / "data"
        self._databases = 0
        # The server refuses to be root.
        self._as = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, **self._as)
        self._call("initdb", "-D", self._data, "-U", "imagegen", "-A", "trust", "--no-sync")
        self.start()

    def start(self):
        """Start, and return once it takes connections.

        Without fsync: a kill loses nothing that way, and no test cuts the power.
        """
        settings = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
            f" -c unix_socket_directories={self._folder} -c max_connections={self._connections}"
        )
        log = self._folder / "log"
        self._call(
            "pg_ctl",
            "start",
            "-w",
            "-t",
            PATIENCE_S,
            "-D",
            self._data,
            "-l",
            log,
            "-o",
            settings,
        )

    def kill(self):
        """End every process of it at once, with SIGKILL."""
        self._signal(signal.SIGSTOP)  # so that none starts or ends another meanwhile
        psutil.wait_procs(self._signal(signal.SIGKILL), timeout=PATIENCE_S)

    def freeze(self):
        """Stop every process of it: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def database(self):
        """Make an empty database, give its URL, and remove it after."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://imagegen@127.0.0.1:{self.port}/{name}"
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, sql, url=None):
        """Run one statement as the server's owner."""
        with self.connect(url) as connection:
            connection.execute(sql)

    def end_sessions(self, name):
        """Cut off every client of a database."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )

    def end_a_waiting_session(self):
        """Wait for a client that waits for a lock, and cut it off."""
        with self.connect() as connection:
            while not connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock'"
            ).fetchall():
                time.sleep(0.01)

    def connect(self, url=None):
        """Return a connection without a transaction around its statements."""
        url = url or f"postgresql://imagegen@127.0.0.1:{self.port}/postgres"
        return psycopg.connect(url, autocommit=True)

    def end(self):
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def pid(self):
        """The postmaster's; None where it was ended."""
        path = self._data / "postmaster.pid"
        return int(path.read_text().split()[0]) if path.exists() else None

    def _signal(self, number):
        """Signal the postmaster first, then its children; return them all."""
        if self.pid is None:
            return []
        postmaster = psutil.Process(self.pid)
        children = postmaster.children(recursive=True)
        for process in (postmaster, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return [postmaster, *children]

    def _call(self, program, *arguments):
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            timeout=PATIENCE_S,
            **self._as,
        )
