"""One plain connection for the bench, closed whatever becomes of it."""

import contextlib
from collections.abc import AsyncIterator

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.connection import make_url

DIAL_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def dialled(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    """Lend a connection. One that was never had is closed as well, or aio-pika complains of it."""
    connection = aio_pika.Connection(make_url(url), client_properties={"connection_name": name})
    try:
        await connection.connect(timeout=DIAL_TIMEOUT_S)
        yield connection
    finally:
        await connection.close()
