"""The proxy: a link between an AMQP client and the broker, with faults in either direction."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

BASIC_PUBLISH, BASIC_DELIVER, BASIC_ACK = (60, 40), (60, 60), (60, 80)
SETTLING = (BASIC_ACK, (60, 90), (60, 120))
"""Ack, reject, nack."""
CHANNEL_OPENED, CHANNEL_CLOSED = (20, 11), (20, 41)
"""AMQP 0-9-1, class and method ids."""
METHOD, HEADER, BODY = 1, 2, 3
"""AMQP 0-9-1, types of frames."""
CHUNK = 8192
LATENT_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it passed. `sender` is `client` or `broker`; `at` on the loop's clock."""

    at: float
    connection: int
    sender: str
    kind: int
    channel: int
    raw: bytes

    @property
    def method(self) -> tuple[int, int] | None:
        """Class and method id; None for content and heartbeats."""
        if self.kind != METHOD:
            return None
        class_id, method_id = struct.unpack(">HH", self.raw[7:11])
        return class_id, method_id


Which = Callable[[Frame], bool]
"""Chooses frames."""


class Hold:
    """A place at which the first frame of a kind is kept, and all behind it on its connection."""

    def __init__(self, which: Which) -> None:
        self.which = which
        self.frame: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        """The frame in hand."""
        self._released = asyncio.Event()

    async def keep(self, frame: Frame) -> None:
        """Keep the frame until it is let go."""
        self.frame.set_result(frame)
        await self._released.wait()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()


def is_reply(frame: Frame) -> bool:
    """Tell whether a frame publishes straight to a queue, as answers go (not news, nor parking)."""
    if frame.method != BASIC_PUBLISH:
        return False
    exchange_size = frame.raw[13]
    key = frame.raw[15 : 15 + frame.raw[14]]
    return exchange_size == 0 and not key.startswith(b"imagegen.parking")


class Lane:
    """One direction of a link, and what is done to the frames in it."""

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self._open = asyncio.Event()
        self.heal()

    def heal(self) -> None:
        """Let everything pass at once, from now on."""
        self.latency_s = 0.0
        self.bytes_per_s = 0.0
        self.cut_above = 0
        self._hold: Hold | None = None
        self._open.set()

    def swallow(self) -> None:
        """Be a black hole: nothing passes, and nobody is told. TCP would send again after it."""
        self._open.clear()

    def hold(self, which: Which) -> Hold:
        """Keep the next frame of a kind, and all behind it on its connection."""
        self._hold = Hold(which)
        return self._hold

    async def passable(self) -> None:
        """Return once it is no black hole: a FIN does not get through one either."""
        await self._open.wait()

    async def carry(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        """Bring one frame across, after what is done to it."""
        await self._open.wait()
        hold = self._hold
        if hold is not None and hold.which(frame):
            self._hold = None
            await hold.keep(frame)
            await self._open.wait()
        if self.cut_above and frame.kind == BODY and len(frame.raw) > self.cut_above:
            self.cut_above = 0
            writer.write(frame.raw[: len(frame.raw) // 2])
            await writer.drain()
            raise ConnectionAbortedError
        await self._write(frame.raw, writer)

    async def _write(self, raw: bytes, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(raw), CHUNK):
            chunk = raw[start : start + CHUNK]
            writer.write(chunk)
            await writer.drain()
            if self.bytes_per_s:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)


@dataclass(slots=True)
class _Pair:
    """A connection through the link: both sockets."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter

    def close(self) -> None:
        self.client.close()
        self.broker.close()

    def reset(self) -> None:
        """End both with RST; what was not sent yet is lost."""
        for writer in (self.client, self.broker):
            end = writer.get_extra_info("socket")
            if end is not None:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Link:
    """A port on loopback that leads to the broker."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.to_broker, self.to_client = Lane("client"), Lane("broker")
        self.watch: Callable[[Frame], None] = lambda _: None
        """Called with every frame that passed."""
        self._pairs: dict[int, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._channels: set[tuple[int, int]] = set()
        self._left: set[int] = set()
        """Connections whose client is gone: what still comes for it reaches nobody."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        return self.to_broker, self.to_client

    @property
    def channels(self) -> int:
        """Count the channels that are open on its connections."""
        return len(self._channels)

    def stands(self, connection: int) -> bool:
        """Tell whether a connection is there at both ends."""
        return connection in self._pairs and connection not in self._left

    def heal(self) -> None:
        """Undo what was done to both directions; connections that stand stay."""
        for lane in self.lanes:
            lane.heal()

    def lead_to(self, target_port: int) -> None:
        """Let new connections go to another port."""
        self._target_port = target_port

    def reset(self) -> None:
        """End every connection with RST on both sides."""
        for pair in list(self._pairs.values()):
            pair.reset()

    def close(self) -> None:
        """End every connection with FIN on both sides."""
        for pair in list(self._pairs.values()):
            pair.close()

    def inject(self, connection: int, raw: bytes) -> None:
        """Send bytes to the broker as if the client had, between two frames."""
        self._pairs[connection].broker.write(raw)

    # ------------------------------------------------------------ one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._tasks.add(task)
        try:
            await self._lead(reader, writer)
        except asyncio.CancelledError:
            pass  # the link ends; the streams' own callback would log it as an error
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            near, far = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            return
        self._count += 1
        number = self._count
        self._pairs[number] = _Pair(writer, far)
        try:
            await asyncio.gather(
                self._pump(number, self.to_broker, reader, far),
                self._pump(number, self.to_client, near, writer),
            )
        finally:
            del self._pairs[number]
            self._channels = {key for key in self._channels if key[0] != number}
            far.transport.abort()

    async def _pump(
        self,
        number: int,
        lane: Lane,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Bring one direction's frames across until its sender ends, or its receiver is gone."""
        queue: asyncio.Queue[tuple[float, Frame | None]] = asyncio.Queue(LATENT_FRAMES)
        collector = asyncio.get_running_loop().create_task(
            self._collect(number, lane, reader, queue)
        )
        try:
            await self._bring(lane, queue, writer)
        except ConnectionAbortedError:
            self._pairs[number].reset()
        except OSError:
            pass
        finally:
            collector.cancel()
            await asyncio.wait({collector})
            writer.close()

    async def _collect(
        self,
        number: int,
        lane: Lane,
        reader: asyncio.StreamReader,
        queue: "asyncio.Queue[tuple[float, Frame | None]]",
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            if lane is self.to_broker:
                greeting = await reader.readexactly(8)
                await queue.put((0.0, Frame(loop.time(), number, lane.sender, 0, 0, greeting)))
            while True:
                head = await reader.readexactly(7)
                kind, channel, size = struct.unpack(">BHI", head)
                raw = head + await reader.readexactly(size + 1)
                frame = Frame(loop.time(), number, lane.sender, kind, channel, raw)
                await queue.put((frame.at + lane.latency_s, frame))
        except (asyncio.IncompleteReadError, OSError):
            if lane is self.to_broker:
                self._left.add(number)
            await queue.put((0.0, None))

    async def _bring(
        self,
        lane: Lane,
        queue: "asyncio.Queue[tuple[float, Frame | None]]",
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, frame = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if frame is None:
                await lane.passable()
                return
            await lane.carry(frame, writer)
            if frame.connection in self._left:
                continue
            self._count_channels(frame)
            self.watch(frame)

    def _count_channels(self, frame: Frame) -> None:
        key = (frame.connection, frame.channel)
        if frame.method == CHANNEL_OPENED:
            self._channels.add(key)
        elif frame.method == CHANNEL_CLOSED:
            self._channels.discard(key)
