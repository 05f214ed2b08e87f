"""A private RabbitMQ node: own folder, own ports on loopback, our definitions, our users."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from control import definitions, loopback
from control.say import Failure, Tell, quiet
from control.state import Process, read_record, rotate, tail, write_private

RABBITMQ = Path(__file__).resolve().parent.parent / "rabbitmq"
"""The broker's own files in this repository."""

PROGRAMS = "RABBITMQ_PROGRAMS"
"""Names a folder with the programs of another RabbitMQ than the one installed."""
_BINARIES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")
_READY_WITHIN_S = 90.0
_STOPPED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.05
_ANY_PORTS = {"amqp": 0, "management": 0, "prometheus": 0, "distribution": 0, "epmd": 0}


def server() -> str | None:
    """Return the path of rabbitmq-server; None where it is not installed.

    Debian's in /usr/sbin comes last: it changes the user and forgets the environment.
    """
    given = os.environ.get(PROGRAMS)
    if given:
        return shutil.which("rabbitmq-server", path=given)
    return shutil.which("rabbitmq-server", path=os.pathsep.join(_BINARIES)) or shutil.which(
        "rabbitmq-server"
    )


class Node:
    """A node of its own, alive or not; what it is lies in its folder.

    Several may run beside each other, each in its folder. Two at once in one folder may not.
    """

    definitions_file = "definitions.json"
    name = "imagegen@localhost"

    def __init__(
        self,
        folder: Path,
        max_queue_size: int = 20,
        preferred_ports: Mapping[str, int] | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._max_queue_size = max_queue_size
        self._preferred_ports = {**_ANY_PORTS, **(preferred_ports or {})}
        self._record = self._folder / "process.json"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def amqp_port(self) -> int:
        return self._ports()["amqp"]

    @property
    def management_port(self) -> int:
        return self._ports()["management"]

    def amqp_url(self, user: str) -> str:
        """Return the URL with which a user reaches the vhost, whether the node runs or not."""
        password = self._passwords()[user]
        return f"amqp://{user}:{password}@{loopback.ADDRESS}:{self.amqp_port}/imagegen"

    def management_url(self, user: str) -> str:
        """Return the URL of the management API with a user's password."""
        password = self._passwords()[user]
        return f"http://{user}:{password}@{loopback.ADDRESS}:{self.management_port}"

    def running(self) -> bool:
        """Tell whether its process is there, ready or not."""
        self._reap()
        return Process.recorded(self._record) is not None

    def ensure_running(self, tell: Tell = quiet) -> None:
        """Start it unless it runs, wait until it is ready, and give it what has changed.

        Raises:
            Failure: it did not get ready; its last words are the evidence.
        """
        topology = definitions.topology(_text(self.definitions_file), self._max_queue_size)
        if self.running():
            self._wait(tell)
            if topology != self._topology().read_text(encoding="utf-8"):
                self._import(topology)
        else:
            self._write_files(topology)
            self._launch()
            self._wait(tell)

    def stop(self, tell: Tell = quiet) -> None:
        """End it in order, so that everything durable is on disk; nothing is left behind."""
        process = Process.recorded(self._record)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            self._wait_gone(process, _STOPPED_WITHIN_S, tell)
        self._clear(process)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._clear(Process.recorded(self._record))

    # ------------------------------------------------------------ what lies in the folder

    def _ports(self) -> dict[str, int]:
        path = self._folder / "node.json"
        ports: dict[str, int] = read_record(path)
        if not ports:
            self._folder.mkdir(parents=True, exist_ok=True)
            ports = loopback.choose_ports(self._preferred_ports)
            write_private(path, json.dumps(ports, indent=1))
        return ports

    def _own_ports(self) -> dict[str, int]:
        """Return the ports that nobody else may hold when it starts."""
        return self._ports()

    def _passwords(self) -> dict[str, str]:
        path = self._folder / "secrets.json"
        passwords: dict[str, str] = read_record(path)
        missing = [
            name
            for name in definitions.user_names(_text("users.json"))
            if name not in passwords
        ]
        if missing:
            self._folder.mkdir(parents=True, exist_ok=True)
            passwords |= {name: secrets.token_urlsafe(24) for name in missing}
            write_private(path, json.dumps(passwords, indent=1))
        return passwords

    def _topology(self) -> Path:
        return self._folder / "definitions.d" / "1-topology.json"

    def _log(self) -> Path:
        return self._folder / "log" / "node.log"

    def _out(self) -> Path:
        return self._folder / "log" / "start.log"

    def _write_files(self, topology: str) -> None:
        for folder in (self._topology().parent, self._log().parent):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        hashes = {
            name: definitions.password_hash(password, secrets.token_bytes(4))
            for name, password in self._passwords().items()
        }
        write_private(self._topology(), topology)
        users = definitions.users(_text("users.json"), hashes)
        write_private(self._topology().with_name("2-users.json"), users)
        write_private(self._folder / "enabled_plugins", _text("enabled_plugins"))
        write_private(
            self._folder / "rabbitmq.conf",
            definitions.configuration(_text("rabbitmq.conf"), self._configuration()),
        )
        cookie = self._folder / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secrets.token_hex(16))
            cookie.chmod(0o400)

    def _configuration(self) -> dict[str, str]:
        ports = self._ports()
        return {
            "load_definitions": str(self._topology().parent),
            "listeners.tcp.1": f"{loopback.ADDRESS}:{ports['amqp']}",
            "management.tcp.ip": loopback.ADDRESS,
            "management.tcp.port": str(ports["management"]),
            "prometheus.tcp.ip": loopback.ADDRESS,
            "prometheus.tcp.port": str(ports["prometheus"]),
            # The console is a file that nobody rotates.
            "log.console": "false",
            "log.file.level": "info",
            "log.file.rotation.size": str(10 * 1024 * 1024),
            "log.file.rotation.count": "2",
        }

    def _environment(self) -> dict[str, str]:
        """Return an environment in which nothing of another broker on this machine is left."""
        foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        ports = self._ports()
        log = self._log()
        return kept | {
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": loopback.ADDRESS,
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_CRASH_DUMP": str(log.with_name("erl_crash.dump")),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(log.parent),
            "RABBITMQ_LOGS": str(log),
        }

    # ------------------------------------------------------------ the process

    def _launch(self) -> None:
        program = server()
        if program is None:
            raise Failure(
                "rabbitmq-server is not installed.", "Install the package rabbitmq-server."
            )
        # A node that was killed leaves its port mapper behind.
        self._clear(None)
        for name, port in self._own_ports().items():
            if not loopback.is_free(port):
                raise Failure(
                    f"Port {port} of the private broker ({name}) is taken by another program.",
                    f"End that program, or have new ports chosen: rm '{self._folder}/node.json'",
                )
        rotate(self._log())
        with self._out().open("wb") as out:
            # A session of its own: Ctrl+C at the terminal is not meant for it, and one signal
            # reaches all of it.
            self._child = subprocess.Popen(
                [program],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process.of(self._child.pid)
        if process is not None:
            process.write(self._record)

    def _wait(self, tell: Tell) -> None:
        """Wait for AMQP's greeting and for the vhost's health, or until the process is gone."""
        began = time.monotonic()
        health = f"{self.management_url(definitions.ADMIN)}/api/health/checks/virtual-hosts"
        while time.monotonic() - began < _READY_WITHIN_S:
            if loopback.speaks_amqp(self.amqp_port):
                answer = loopback.ask("GET", health)
                if answer is not None and answer.status == 200:
                    return
            if not self.running():
                self._clear(None)
                raise self._failure("The private broker ended while it started.")
            tell("it boots")
            time.sleep(_LOOK_EVERY_S)
        raise self._failure(f"The private broker was not ready within {_READY_WITHIN_S:.0f} s.")

    def _failure(self, sentence: str) -> Failure:
        evidence = [*tail(self._out(), 12), *tail(self._log(), 12)]
        if any("eaddrinuse" in line for line in evidence):
            remedy = (
                "A port was taken in that moment: run it again, or have new ones chosen:"
                f" rm '{self._folder}/node.json'"
            )
        else:
            remedy = (
                f"The log is {self._log()}. If its data are of another version or damaged, give"
                f" them up with the messages in them: rm -r '{self._folder}/data'"
            )
        return Failure(sentence, remedy, evidence)

    def _import(self, topology: str) -> None:
        url = f"{self.management_url(definitions.ADMIN)}/api/definitions"
        answer = loopback.ask("POST", url, topology.encode(), patience_s=30)
        if answer is None or answer.status >= 300:
            evidence = [] if answer is None else [answer.body.decode(errors="replace")]
            raise Failure(
                "The private broker did not take its new definitions.",
                "Start it anew: ./control.sh image stop, then start.",
                evidence,
            )
        write_private(self._topology(), topology)

    def _wait_gone(self, process: Process, patience_s: float, tell: Tell = quiet) -> None:
        deadline = time.monotonic() + patience_s
        while process.alive() and time.monotonic() < deadline:
            self._reap()
            tell("it writes everything durable to disk")
            time.sleep(_LOOK_EVERY_S)

    def _clear(self, process: Process | None) -> None:
        """Kill what is left of the group, and end the port mapper, which left it on purpose."""
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._wait_gone(process, _STOPPED_WITHIN_S)
        self._reap()
        self._end_epmd()
        self._record.unlink(missing_ok=True)

    def _end_epmd(self) -> None:
        """End the port mapper, which is this node's alone."""
        if (self._folder / "node.json").exists():
            deadline = time.monotonic() + 10
            # It refuses until it has noticed that the node is gone.
            while not loopback.end_epmd(self._ports()["epmd"]) and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY_S)

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None


def _text(name: str) -> str:
    return (RABBITMQ / name).read_text(encoding="utf-8")
