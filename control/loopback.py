"""Who listens on this machine's loopback, and what it answers."""

import base64
import contextlib
import http.client
import random
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

ADDRESS = "127.0.0.1"
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
# Below the range from which systems give outgoing connections their ports, so that a free one
# stays free until it is used.
_PORTS = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a port can be listened on."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def choose_ports(preferred: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for every name: the preferred one, or any where that is taken or 0."""
    chosen: dict[str, int] = {}
    for name, port in preferred.items():
        candidates = random.SystemRandom().sample(_PORTS, 100)
        if port:
            candidates.insert(0, port)
        chosen[name] = next(
            port for port in candidates if port not in chosen.values() and is_free(port)
        )
    return chosen


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes


def ask(
    method: str, url: str, body: bytes | None = None, patience_s: float = 5.0
) -> Answer | None:
    """Return the answer to an HTTP request, or None where nobody gives one.

    User and password in the URL are sent as basic authentication. No proxy is asked.
    """
    parts = urllib.parse.urlsplit(url)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if parts.username is not None:
        pair = f"{parts.username}:{parts.password or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    connection = http.client.HTTPConnection(
        parts.hostname or ADDRESS, parts.port, timeout=patience_s
    )
    with contextlib.closing(connection):
        try:
            connection.request(method, parts.path or "/", body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            return None


def speaks_amqp(port: int) -> bool:
    """Tell whether an AMQP 0-9-1 broker greets on a port: a frame of type 1, Connection.Start."""
    try:
        with socket.create_connection((ADDRESS, port), timeout=2) as connection:
            connection.sendall(_AMQP_GREETING)
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


def end_epmd(port: int) -> bool:
    """Ask Erlang's port mapper to end; it refuses while a node is registered with it.

    Returns True when nothing listens on the port any more.
    """
    try:
        with socket.create_connection((ADDRESS, port), timeout=2) as connection:
            connection.sendall(b"\x00\x01k")
            connection.recv(2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
