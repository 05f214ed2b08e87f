"""The dial: opens one connection to the broker, and closes it even where nothing answers any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError
from aiormq.connection import TCPTransportFactory, TLSTransportFactory
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.exceptions import PAMQPException
from yarl import URL

HEARTBEAT_S = 10
"""The broker sends a frame every half of it, and gives up a silent client after two to three."""
DIAL_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0

LINK_ERRORS = (
    AMQPError,
    PAMQPException,
    OSError,
    ChannelInvalidStateError,
    RuntimeError,
    TimeoutError,
)
"""What aio-pika raises when a link is gone, in its various moments."""


class Line:
    """One connection, with what aiormq keeps to itself."""

    def __init__(self, connection: AbstractConnection, wire: "_Wire") -> None:
        self.connection = connection
        self._wire = wire

    @property
    def _underlay(self) -> Any:
        transport = self.connection.transport
        if transport is None:
            raise ConnectionError("the connection is closed")
        return transport.connection

    async def unblocked(self) -> None:
        """Return when the broker takes publishes: in a memory or disk alarm it does not."""
        await self._underlay.ready()

    async def blocked(self) -> bool:
        """Whether the broker said that it takes no publishes for now."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        return False

    def silence_s(self) -> float:
        """Return the seconds since the last frame from the broker.

        aiormq notices silence on its own, but only after 33 to 38 s with our heartbeat.
        """
        if self.connection.transport is None:
            return 0.0
        last: float = getattr(self._underlay, "_Connection__last_frame_time")  # noqa: B009
        return asyncio.get_running_loop().time() - last

    def cut(self) -> None:
        """Drop the link with whatever was not sent yet."""
        self._wire.cut()


class _Wire:
    """Opens a link as aiormq does, and keeps hold of it so that it can be cut."""

    def __init__(self, url: URL) -> None:
        self._opens = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._opens.create(url, **options)
        return reader, self._writer

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


def address(url: str) -> URL:
    """Return the broker's URL with our heartbeat. Raises ValueError where it is none."""
    return make_url(url, heartbeat=HEARTBEAT_S)


def user_of(url: URL) -> str | None:
    """Return the user that a connection has; None where a certificate tells it, not the URL."""
    if url.query.get("auth", "").lower() == "external":
        return None
    return url.user or "guest"


@contextlib.asynccontextmanager
async def dialled(url: URL) -> AsyncIterator[Line]:
    """Lend a connection. Raises one of LINK_ERRORS where there is none to be had."""
    wire = _Wire(url)
    connection = aio_pika.Connection(
        url, client_properties={"connection_name": "imagegen client"}
    )
    connection.kwargs["transport_factory"] = wire
    try:
        await _connect(connection, wire)
        yield Line(connection, wire)
    finally:
        # Also one that was never had: aio-pika closes it when it is collected, in any thread.
        await _close(connection, wire)


async def _connect(connection: AbstractConnection, wire: _Wire) -> None:
    try:
        await connection.connect(timeout=DIAL_TIMEOUT_S)
    except BaseException:
        wire.cut()
        raise


async def _close(connection: AbstractConnection, wire: _Wire) -> None:
    """Close politely, or cut the link: with bytes unsent, aiormq's close waits for them for ever."""
    closer = asyncio.get_running_loop().create_task(_close_politely(connection))
    try:
        await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
    finally:
        if not closer.done():
            wire.cut()
            await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
        closer.cancel()  # a close that even a cut does not end holds up nobody


async def _close_politely(connection: AbstractConnection) -> None:
    with contextlib.suppress(*LINK_ERRORS):
        await connection.close()
