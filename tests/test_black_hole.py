"""A link that takes no more bytes: it is given up, and neither a reconnect nor a stop hangs on it."""

import asyncio
import contextlib

import aio_pika
import pytest

from consumer.connection import Broker, Session
from consumer.connection import broker as supervisor


@pytest.fixture
async def hole(broker):
    """A broker behind a port that forwards until it is told to swallow everything."""
    open_ = asyncio.Event()
    open_.set()
    tasks, target = set(), broker.node.amqp_port

    async def pump(reader, writer):
        while chunk := await reader.read(65536):
            await open_.wait()
            writer.write(chunk)
            await writer.drain()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        near, far = await asyncio.open_connection("127.0.0.1", target)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(pump(reader, far), pump(near, writer))
        for end in (far, writer):
            end.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], open_
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_link_with_unsent_bytes_is_cut_and_dialled_anew(broker, hole, monkeypatch):
    """A large publish stuck in a black hole does not keep the session from being replaced."""
    monkeypatch.setattr(supervisor, "SILENCE_S", 1.0)
    port, open_ = hole
    url = broker.url("imagegen-consumer").replace(f":{broker.node.amqp_port}/", f":{port}/")
    sessions: asyncio.Queue[Session] = asyncio.Queue()
    supervised = Broker(url, "tester")

    async def attach(session):
        await sessions.put(session)

    supervised.attach(attach)
    running = asyncio.get_running_loop().create_task(supervised.run())
    try:
        async with asyncio.timeout(60):
            first = await sessions.get()
            await supervised.wait_connected()
            channel = await first.publish.channel()
            open_.clear()
            stuck = asyncio.get_running_loop().create_task(
                channel.default_exchange.publish(aio_pika.Message(bytes(16 << 20)), "nowhere")
            )
            await first.ended
            open_.set()
            second = await sessions.get()
            assert second.generation == first.generation + 1
            await asyncio.gather(stuck, return_exceptions=True)
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=30)
    assert running.done()
