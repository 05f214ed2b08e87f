"""One link to the broker: dialled, closed politely or cut, and how long it has been silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.exceptions import PAMQPException
from typing_extensions import override
from yarl import URL

from consumer.logs import logger

log = logger(__name__)

HEARTBEAT_S = 10
"""The broker gives up a peer that it does not hear after two to three of them."""
DIAL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
"""Before aiormq's own limit of 2 s, at which it cancels whoever waits for an answer."""

LINK_ERRORS = (
    AMQPError,
    PAMQPException,
    OSError,
    ChannelInvalidStateError,
    RuntimeError,
    TimeoutError,
)
"""What aio-pika raises when a link is gone, in its various moments."""


class _Transport(TransportFactory):
    """Opens a link as aiormq does, and keeps hold of it so that it can be cut."""

    def __init__(self, url: URL) -> None:
        self._opens = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    @override
    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._opens.create(url, **kwargs)
        return reader, self._writer

    def cut(self) -> None:
        """Drop the link with whatever was not sent yet."""
        if self._writer is not None:
            self._writer.transport.abort()


@contextlib.asynccontextmanager
async def dialled(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    """Hold a connection of this name, until the block ends. Raises LINK_ERRORS if there is none."""
    address = make_url(url, heartbeat=HEARTBEAT_S)
    transport = _Transport(address)
    connection = aio_pika.Connection(address, client_properties={"connection_name": name})
    connection.kwargs["transport_factory"] = transport
    try:
        await _connect(connection, transport)
        yield connection
    finally:
        # Also one that was never had: aio-pika closes it when it is collected, in any thread.
        await _close(connection, transport)


async def _connect(connection: AbstractConnection, transport: _Transport) -> None:
    try:
        await connection.connect(timeout=DIAL_TIMEOUT_S)
    except BaseException:
        transport.cut()
        raise


async def _close(connection: AbstractConnection, transport: _Transport) -> None:
    """Close politely, or cut the link: with bytes unsent, aiormq's close waits for them for ever."""
    closer = asyncio.get_running_loop().create_task(_close_politely(connection))
    try:
        await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
    finally:
        if not closer.done():
            transport.cut()
            await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
        if not closer.done():
            log.warning("close_given_up")
            closer.cancel()


async def _close_politely(connection: AbstractConnection) -> None:
    with contextlib.suppress(*LINK_ERRORS):
        await connection.close()


def silence_s(connection: AbstractConnection) -> float:
    """Return the seconds since the last frame.

    aiormq keeps the time to itself; a probe of our own would be answered late in a memory alarm,
    when the broker stops reading what a publisher sends and only its heartbeats come.
    """
    transport = connection.transport
    if transport is None:
        return 0.0
    last: float = getattr(transport.connection, "_Connection__last_frame_time")  # noqa: B009
    return asyncio.get_running_loop().time() - last
