"""The link: one connection to the broker, brought back when it is lost, with a reply queue."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.commands import Basic

from imagegen_client.errors import Busy, Unavailable

HEARTBEAT_S = 15
DIAL_TIMEOUT_S = 5.0
CONFIRM_TIMEOUT_S = 10.0
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.25, 4.0
REPLY_QUEUE_EXPIRES_MS = 5 * 60 * 1000
"""A reply queue nobody reads is removed by the broker after this."""

LINK_ERRORS = (AMQPError, OSError, ChannelInvalidStateError, RuntimeError, TimeoutError)

OnMessage = Callable[[AbstractIncomingMessage], None]


class Link:
    """Connects, keeps connected, publishes with confirm, and hands over what arrives."""

    def __init__(self, url: str, on_reply: OnMessage, on_event: OnMessage) -> None:
        self._url = url
        self._on_reply = on_reply
        self._on_event = on_event
        self._connection: AbstractConnection | None = None
        self._publisher: AbstractChannel | None = None
        self._replies: tuple[AbstractQueue, str] | None = None
        self._events: AbstractQueue | None = None
        self._event_keys: set[str] = set()
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.problem = "not connected yet"
        self.reply_queue = f"imagegen.client.{uuid4()}"

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._closed.clear()
        if self._keeper is None:
            loop = asyncio.get_running_loop()
            self._keeper = loop.create_task(self._keep(), name="imagegen-client-link")

    async def stop(self) -> None:
        """Disconnect and remove the reply queue. May be called twice."""
        self._closed.set()
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        with contextlib.suppress(*LINK_ERRORS):
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await self._leave()

    async def wait_up(self, timeout_s: float) -> None:
        """Return once connected. Raises Unavailable after `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_open()
        except TimeoutError:
            raise Unavailable(
                f"The broker could not be reached within {timeout_s:g} s: {self.problem}"
            ) from None

    async def _wait_open(self) -> None:
        """Return once connected. Raises Unavailable when the client is closed first."""
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (self._up, self._closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._closed.is_set():
            raise Unavailable("The client was closed.")

    async def _give_up(self, channel: AbstractChannel) -> None:
        """Close a channel that does not answer, which makes the link start afresh."""
        if self._publisher is channel:
            self._up.clear()
            with contextlib.suppress(*LINK_ERRORS):
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    await channel.close()
        await asyncio.sleep(BACKOFF_FIRST_S)

    async def publish(self, exchange: str, routing_key: str, message: aio_pika.Message) -> None:
        """Publish and wait for the broker's confirm, again after a lost connection.

        Raises:
            Busy: the queue is full.
            Unavailable: no queue takes it, or we may not publish.
        """
        maybe_arrived = False
        while True:
            await self._wait_open()
            channel = self._publisher
            if channel is None:
                continue
            try:
                async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                    target = (
                        await channel.get_exchange(exchange, ensure=False)
                        if exchange
                        else channel.default_exchange
                    )
                    answer = await target.publish(message, routing_key, mandatory=True)
            except DeliveryError:
                if maybe_arrived:
                    return  # an earlier try may be in the queue: its reply or the deadline decides
                raise Busy("The queue is full. Try again in a few seconds.") from None
            except aio_pika.exceptions.ChannelClosed as error:
                raise Unavailable(f"The broker refused the request: {error}") from error
            except LINK_ERRORS as error:
                # It may have arrived: the same message_id makes the service answer once.
                maybe_arrived = True
                self.problem = str(error)
                # Not again on this channel: without a confirm each try may be one more request.
                await self._give_up(channel)
                continue
            if not isinstance(answer, Basic.Ack):
                raise Unavailable(
                    f"The broker has no queue behind {exchange or routing_key}. "
                    "Is the service set up on this vhost?"
                )
            return

    async def broadcast(self, exchange: str, message: aio_pika.Message) -> None:
        """Publish once to a fanout, best effort, as far as connected."""
        connection = self._connection
        if connection is None or not self._up.is_set():
            return
        with contextlib.suppress(*LINK_ERRORS):
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                # A channel of its own: a refusal closes it, and with it what others publish there.
                channel = await connection.channel()
                target = await channel.get_exchange(exchange, ensure=False)
                await target.publish(message, "", mandatory=False)
                await channel.close()

    async def follow(self, key: str) -> None:
        """Have news with this routing key handed over, over reconnects too; best effort."""
        self._event_keys.add(key)
        await self._bind(lambda queue: queue.bind("imagegen.events", key))

    async def unfollow(self, key: str) -> None:
        """Undo `follow`."""
        self._event_keys.discard(key)
        await self._bind(lambda queue: queue.unbind("imagegen.events", key))

    async def _bind(self, bind: Callable[[AbstractQueue], Awaitable[Any]]) -> None:
        if self._events is not None:
            with contextlib.suppress(*LINK_ERRORS):
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    await bind(self._events)

    # ------------------------------------------------------------ stay connected

    async def _keep(self) -> None:
        delay = BACKOFF_FIRST_S
        while True:
            try:
                lost = await self._connect()
                self._up.set()
                delay = BACKOFF_FIRST_S
                self.problem = await lost
            except LINK_ERRORS as error:
                self.problem = f"{type(error).__name__}: {error}"
            finally:
                self._up.clear()
            await self._hang_up()
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret
            delay = min(delay * 2, BACKOFF_MOST_S)

    async def _connect(self) -> "asyncio.Future[str]":
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def lose(what: str) -> None:
            if not lost.done():
                lost.set_result(what)

        connection = self._connection = await aio_pika.connect(
            self._url,
            timeout=DIAL_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            client_properties={"connection_name": "imagegen client"},
        )
        connection.close_callbacks.add(lambda *_: lose("the connection was closed"))
        async with asyncio.timeout(2 * DIAL_TIMEOUT_S):
            self._publisher = await connection.channel()
            self._publisher.close_callbacks.add(lambda *_: lose("the channel was closed"))
            replies = await connection.channel(publisher_confirms=False)
            replies.close_callbacks.add(lambda *_: lose("the reply channel was closed"))
            # Durable and named, so that a reply sent while we are away is there afterwards.
            queue = await replies.declare_queue(
                self.reply_queue,
                durable=True,
                arguments={"x-queue-type": "classic", "x-expires": REPLY_QUEUE_EXPIRES_MS},
            )
            tag = await queue.consume(self._take_reply)
            self._replies = (queue, tag)
            await self._listen(connection)
        return lost

    async def _listen(self, connection: AbstractConnection) -> None:
        """Open the queue of news; a user without the right to it gets pictures all the same."""
        self._events = None
        try:
            channel = await connection.channel(publisher_confirms=False)
            events = await channel.declare_queue("", exclusive=True)
            await events.consume(self._take_event, no_ack=True)
            for key in self._event_keys:
                await events.bind("imagegen.events", key)
        except aio_pika.exceptions.ChannelClosed:
            return
        self._events = events

    async def _take_reply(self, message: AbstractIncomingMessage) -> None:
        self._on_reply(message)
        await message.ack()

    async def _take_event(self, message: AbstractIncomingMessage) -> None:
        self._on_event(message)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        self._publisher = None
        self._events = None
        if connection is not None:
            with contextlib.suppress(*LINK_ERRORS):
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    await connection.close()

    async def _leave(self) -> None:
        replies, self._replies = self._replies, None
        if replies is not None and self._connection is not None:
            queue, tag = replies
            await queue.cancel(tag)
            await queue.delete(if_unused=False, if_empty=False)
        await self._hang_up()
