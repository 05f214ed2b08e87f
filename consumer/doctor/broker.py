"""The broker as our user finds it: whether it lets us in, and what we may do, nothing being moved.

A right is told by the broker's refusal of something that can not succeed: it looks at the rights
first. A publish under another user's name is refused for the name (406) where we may write, and a
consumer of no legal priority for that (406) where we may read; where we may not, with 403. Nothing is
ever published or taken.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    ProbableAuthenticationError,
)

from consumer.connection import LINK_ERRORS
from consumer.connection.link import dialled
from consumer.topology import CONTROL, EVENTS, EXCHANGE, EXPIRED, REQUESTS
from imagegen_client.nodes import nodes_in

TCP_S = 5.0
DIAL_S = 8.0
ASK_S = 5.0
"""For one right: a broker in a memory alarm reads nothing that is published."""
NOBODY = "nobody-of-this-name"
NOWHERE = "imagegen.doctor"

Lock = Literal["unreachable", "silent", "no_user", "no_vhost", "other"]
"""Why we are not let in."""
May = Literal["yes", "no", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class BrokerFound:
    """What a user finds."""

    address: str
    user: str
    vhost: str
    lock: Lock | None = None
    problem: str = ""
    version: str = ""
    rights: dict[str, May] = field(default_factory=dict)
    """By what is to be done: `read imagegen.requests`."""
    largest: str | None = None
    """Why the largest reply is not taken; None where it is, or could not be told."""
    consumers: int | None = None
    """Of the requests, ours included."""
    away: tuple[str, ...] = ()
    """Those of several nodes at whose port nobody answers."""


Try = Callable[[AbstractChannel], Awaitable[object]]


def look(urls: str, role: Literal["consumer", "http"], max_reply_bytes: int) -> BrokerFound:
    """Go to a broker and ask it, as the user of the URL: of several nodes the first that is there."""
    nodes = nodes_in(urls)
    with ThreadPoolExecutor(len(nodes)) as threads:
        doors = list(threads.map(_knock, nodes))
    there = [url for url, door in zip(nodes, doors, strict=True) if door.lock is None]
    if not there:
        return doors[0]
    away = tuple(door.address for door in doors if door.lock is not None)
    known = doors[nodes.index(there[0])]
    return replace(asyncio.run(_look(there[0], known, role, max_reply_bytes)), away=away)


def _knock(url: str) -> BrokerFound:
    """See whether somebody listens at a node's port."""
    parsed = make_url(url)
    usual = 5671 if parsed.scheme == "amqps" else 5672
    host, port = parsed.host or "localhost", parsed.port or usual
    found = BrokerFound(f"{host}:{port}", parsed.user or "guest", parsed.path[1:] or "/")
    try:
        socket.create_connection((host, port), timeout=TCP_S).close()
    except OSError as error:
        return _locked(found, "unreachable", error)
    return found


async def _look(
    url: str, found: BrokerFound, role: Literal["consumer", "http"], max_reply_bytes: int
) -> BrokerFound:
    try:
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(DIAL_S):
                connection = await stack.enter_async_context(dialled(url, "imagegen doctor"))
            return await _ask(connection, found, role, max_reply_bytes)
    except TimeoutError as error:
        return _locked(found, "silent", error)
    except (AuthenticationError, ProbableAuthenticationError) as error:
        return _locked(found, "no_user", error)
    except LINK_ERRORS as error:
        # aiormq tells a refused vhost as an answer that it did not expect.
        vhost = isinstance(error, ConnectionNotAllowed) or "Connection.OpenOk" in str(error)
        return _locked(found, "no_vhost" if vhost else "other", error)


async def _ask(
    connection: AbstractConnection,
    found: BrokerFound,
    role: Literal["consumer", "http"],
    max_reply_bytes: int,
) -> BrokerFound:
    transport = connection.transport
    about = getattr(transport.connection, "server_properties", {}) if transport else {}
    tries = _TRIES[role]
    may = await asyncio.gather(*(_may(connection, attempt) for attempt in tries.values()))
    return BrokerFound(
        found.address,
        found.user,
        found.vhost,
        version=str(about.get("version", "")),
        rights=dict(zip(tries, may, strict=True)),
        largest=await _largest(connection, max_reply_bytes) if role == "consumer" else None,
        consumers=await _consumers(connection),
    )


def _locked(found: BrokerFound, lock: Lock, error: Exception) -> BrokerFound:
    problem = str(error) or type(error).__name__
    return BrokerFound(found.address, found.user, found.vhost, lock, problem)


# ---------------------------------------------------------------- what we may do


async def _may(connection: AbstractConnection, attempt: Try) -> May:
    """Try it on a channel of its own, which a refusal closes."""
    try:
        async with asyncio.timeout(ASK_S):
            channel = await connection.channel()
            try:
                await attempt(channel)
            except ChannelAccessRefused:
                return "no"
            except ChannelNotFoundEntity:
                return "missing"
            except ChannelPreconditionFailed:
                return "yes"
            await channel.close()
            return "yes"
    except LINK_ERRORS:
        return "unknown"


def _write(exchange: str) -> Try:
    async def publish(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False)
        message = aio_pika.Message(b"", user_id=NOBODY)
        await target.publish(message, NOWHERE, mandatory=False)

    return publish


def _read(queue: str) -> Try:
    async def consume(channel: AbstractChannel) -> None:
        source = await channel.get_queue(queue, ensure=False)
        await source.consume(_take, arguments={"x-priority": "none"})

    return consume


async def _take(message: object) -> None:
    """Never called: no such consumer is let in."""


def _bind(exchange: str) -> Try:
    """A queue that the broker names, which goes with the connection."""

    async def bind(channel: AbstractChannel) -> None:
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange, NOWHERE)
        await queue.delete()

    return bind


_TRIES: dict[str, dict[str, Try]] = {
    "consumer": {
        f"read {REQUESTS}": _read(REQUESTS),
        f"read {EXPIRED}": _read(EXPIRED),
        f"read {CONTROL} by a queue of our own": _bind(CONTROL),
        "write amq.default": _write(""),
        f"write {CONTROL}": _write(CONTROL),
        f"write {EVENTS}": _write(EVENTS),
    },
    "http": {
        f"write {EXCHANGE}": _write(EXCHANGE),
        f"write {CONTROL}": _write(CONTROL),
        f"read {EVENTS} by a queue of our own": _bind(EVENTS),
    },
}


async def _largest(connection: AbstractConnection, max_reply_bytes: int) -> str | None:
    """Send as large a message as a reply may be, under a name that is refused after its size."""
    try:
        async with asyncio.timeout(DIAL_S):
            channel = await connection.channel()
            target = await channel.get_exchange("", ensure=False)
            message = aio_pika.Message(bytes(max_reply_bytes), user_id=NOBODY)
            await target.publish(message, NOWHERE, mandatory=False)
    except ChannelPreconditionFailed as error:
        return str(error) if "message size" in str(error) else None
    except LINK_ERRORS:
        return None
    return None


async def _consumers(connection: AbstractConnection) -> int | None:
    try:
        async with asyncio.timeout(ASK_S):
            channel = await connection.channel()
            queue = await channel.declare_queue(REQUESTS, passive=True)
            return queue.declaration_result.consumer_count
    except LINK_ERRORS:
        return None
