"""A TCP proxy that reads AMQP frames as they pass, writes them down, and can lose or hold them."""

import asyncio
import contextlib
import struct
import urllib.parse
from dataclasses import dataclass

BASIC_PUBLISH, BASIC_DELIVER, BASIC_ACK, BASIC_NACK = (60, 40), (60, 60), (60, 80), (60, 120)
"""AMQP 0-9-1, class and method ids."""


@dataclass(frozen=True)
class Seen:
    """One method frame."""

    connection: int
    sender: str
    method: tuple[int, int]


class FrameProxy:
    """Listens on loopback and forwards to the broker of a URL, frame by frame.

    `passing` cleared makes it a black hole; `swallowing` is set once a frame has gone into it,
    and `dialled` with each connection that is asked for.
    """

    def __init__(self, url):
        self._target = urllib.parse.urlsplit(url)
        self.seen = []
        self.holding = None
        self.held = asyncio.Event()
        self.released = asyncio.Event()
        self.passing = asyncio.Event()
        self.passing.set()
        self.swallowing = asyncio.Event()
        self.dialled = asyncio.Event()
        self.dropping = None
        self._news = asyncio.Condition()
        self._count = 0
        self._tasks = set()
        self._writers = set()
        self._refusing = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self):
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._target.username}:{self._target.password}"
        return f"amqp://{user}@127.0.0.1:{port}{self._target.path}"

    def hold(self, sender, method):
        """Hold back this method from now on, until `released` is set."""
        self.holding = (sender, method)

    def drop(self, sender, method):
        """Note this method from now on, and never hand it on."""
        self.dropping = (sender, method)

    def refuse(self):
        """Take no connection from now on."""
        self._refusing = True

    def accept(self):
        """Take connections again."""
        self._refusing = False

    def cut(self):
        """Reset every connection; what was held back is lost."""
        self.holding = None
        for writer in self._writers:
            writer.transport.abort()

    async def wait(self, sender, method, count=1):
        """Wait until the method passed `count` times."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.of(sender, method)) >= count)

    def of(self, sender, method):
        """Return (position, connection) of each passing of a method."""
        return [
            (position, seen.connection)
            for position, seen in enumerate(self.seen)
            if (seen.sender, seen.method) == (sender, method)
        ]

    async def _serve(self, reader, writer):
        self.dialled.set()
        if self._refusing:
            writer.transport.abort()
            return
        self._tasks.add(asyncio.current_task())
        self._count += 1
        number = self._count
        to_broker, from_broker = await asyncio.open_connection(
            self._target.hostname, self._target.port
        )
        self._writers |= {writer, from_broker}
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        ):
            from_broker.write(await reader.readexactly(8))  # the protocol header
            await asyncio.gather(
                self._pump(number, "client", reader, from_broker),
                self._pump(number, "broker", to_broker, writer),
            )
        self._writers -= {writer, from_broker}
        writer.close()
        from_broker.close()

    async def _pump(self, number, sender, reader, writer):
        try:
            while True:
                head = await reader.readexactly(7)
                kind, _, size = struct.unpack(">BHI", head)
                body = await reader.readexactly(size + 1)
                if not self.passing.is_set():
                    self.swallowing.set()
                    await self.passing.wait()
                seen = (
                    Seen(number, sender, struct.unpack(">HH", body[:4])) if kind == 1 else None
                )
                if seen is not None:
                    await self._note(seen)
                if seen is None or (sender, seen.method) != self.dropping:
                    writer.write(head + body)
                    await writer.drain()
        finally:
            writer.close()

    async def _note(self, seen):
        if (seen.sender, seen.method) == self.holding:
            self.held.set()
            await self.released.wait()
        async with self._news:
            self.seen.append(seen)
            self._news.notify_all()
