"""The broker in use: the one that IMAGE_GEN_AMQP_URL names, else a private node of this clone."""

import hashlib
import json
import socket
import urllib.parse
from dataclasses import dataclass

from control import apt, loopback, node
from control.definitions import REQUESTS
from control.node import Node
from control.say import Failure, Progress
from control.settings import PREFIX, number, setting
from control.state import Clone

_REMEDY = (
    "Install RabbitMQ (Debian, Ubuntu: sudo apt-get install rabbitmq-server; macOS: brew install"
    f" rabbitmq), or name a broker: {PREFIX}AMQP_URL=amqp://user:password@host:5672/vhost, or use"
    " Docker: docker compose --profile image-gen up -d"
)
# Beside the defaults of a broker of the system's own, so that both can run.
_PREFERRED_PORTS = {"amqp": 5682, "management": 15682, "prometheus": 15702}


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that service and callers use; `node` is ours even where `given` takes its place."""

    given: str | None
    node: Node

    def ensure_installed(self, clone: Clone) -> None:
        """Install RabbitMQ where a private node is to be and it is missing."""
        if self.given is None:
            install_server(clone)

    def ensure_running(self) -> None:
        """Start our node, or see that somebody listens where the given URL points."""
        if self.given is None:
            with Progress("Starting the private RabbitMQ") as progress:
                self.node.ensure_running(progress.tell)
            return
        host, port = _address(self.given)
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError as error:
            raise Failure(
                f"No broker answers on {host}:{port}: {error}.",
                f"Start it, or correct {PREFIX}AMQP_URL, or unset it to get a private broker.",
            ) from error

    def stop(self) -> None:
        """Stop our node, whichever broker is in use."""
        with Progress("Stopping the private RabbitMQ") as progress:
            self.node.stop(progress.tell)

    def chat_url(self) -> str:
        """Return the URL that a chat backend publishes with."""
        return self.given or self.node.amqp_url("chat-backend")

    def service_settings(self) -> dict[str, str]:
        """Return what the service is told; nothing where it reads the given URL itself."""
        if self.given is not None:
            return {}
        return {
            f"{PREFIX}AMQP_URL": self.node.amqp_url("imagegen-consumer"),
            f"{PREFIX}HTTP_AMQP_URL": self.node.amqp_url("imagegen-http"),
            f"{PREFIX}MANAGEMENT_URL": self.node.management_url("monitoring"),
        }

    def caller_settings(self) -> dict[str, str]:
        """Return what a caller is told; nothing where it reads the given URL itself."""
        return {} if self.given is not None else {f"{PREFIX}AMQP_URL": self.chat_url()}

    def identity(self) -> str:
        """Return what tells it from other brokers, without its password."""
        return hashlib.sha256(self.chat_url().encode()).hexdigest()[:16]

    def describe(self) -> str:
        """Return a line on what it is and what waits in it."""
        if self.given is not None:
            host, port = _address(self.given)
            return f"{host}:{port}, given by {PREFIX}AMQP_URL"
        if not self.node.running():
            return "private, stopped"
        queue = describe_queue(self.node.management_url("monitoring"))
        return f"private, {loopback.ADDRESS}:{self.node.amqp_port}, {queue}"


def choose(clone: Clone) -> Broker:
    """Return the broker that the settings ask for."""
    bound = int(number("MAX_QUEUE_SIZE", 20))
    return Broker(setting("AMQP_URL"), Node(clone.broker, bound, _PREFERRED_PORTS))


def describe_queue(management_url: str) -> str:
    """Return in words what waits in a broker's queue and who reads it."""
    answer = loopback.ask("GET", f"{management_url}/api/queues/imagegen/{REQUESTS}")
    if answer is None or answer.status != 200:
        return "its queue does not answer"
    queue = json.loads(answer.body)
    # Absent in the first seconds, until the first statistics are in.
    waiting, consumers = queue.get("messages_ready", 0), queue.get("consumers", 0)
    return f"{waiting} waiting, {consumers} consumer{'' if consumers == 1 else 's'}"


def install_server(clone: Clone) -> None:
    """Install RabbitMQ where it is missing and that is possible."""
    if node.server() is None:
        apt.install("rabbitmq-server", clone, _REMEDY)
    if node.server() is None:
        raise Failure("rabbitmq-server was installed but is not found.", _REMEDY)


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"amqp": 5672, "amqps": 5671}[parts.scheme]
    except (KeyError, ValueError) as error:
        # Its text may hold the password: it is not shown.
        raise Failure(
            f"{PREFIX}AMQP_URL is no amqp:// or amqps:// URL.",
            "Give amqp://user:password@host:5672/vhost.",
        ) from error
    return parts.hostname or "localhost", port
