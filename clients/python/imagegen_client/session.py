"""The session: one connection with all that we have on it, until anything ends it."""

import asyncio
import contextlib
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Basic

from imagegen_client import tracing
from imagegen_client.dial import CLOSE_TIMEOUT_S, LINK_ERRORS, Line
from imagegen_client.errors import Unavailable
from imagegen_client.mailbox import Address

SILENCE_S = 25.0
"""Without a frame for so long, two and a half heartbeats, a link is dead whatever TCP says."""
WATCH_EVERY_S = 1.0
BROADCAST_TIMEOUT_S = 10.0
CHANNELS_MOST = 64
"""Publishes under way at once; the broker ends a connection that opens over 2,047 channels."""


class Told(Enum):
    """What became of a publish."""

    CONFIRMED = auto()
    FULL = auto()
    """The queue is full: the broker refused it."""
    RETURNED = auto()
    """There is no queue that takes it."""
    UNSENT = auto()
    """The link went away, or stayed silent, before anything was sent."""
    UNKNOWN = auto()
    """The link went away, or stayed silent: it may have arrived or not."""


class Session:
    """One connection, its channels, and the reply queue that is read on it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.reply_to = Address("")
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._idle: list[AbstractChannel] = []
        self._places = asyncio.Semaphore(CHANNELS_MOST)
        self._chores: set[asyncio.Task[None]] = set()
        line.connection.close_callbacks.add(lambda *_: self.lose("the connection was closed"))

    def lose(self, reason: str) -> None:
        """End it; the first reason is kept."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def watch(self) -> str:
        """Return the reason of its end, once it ends; silence is one."""
        while not self.ended.done():
            await asyncio.wait({self.ended}, timeout=WATCH_EVERY_S)
            if self.line.silence_s() > SILENCE_S:
                self.lose(f"the broker was silent for {SILENCE_S:g} s")
        return self.ended.result()

    def end(self) -> None:
        """Leave nothing of it running."""
        self.lose("torn down")
        for chore in self._chores:
            chore.cancel()

    async def publish(self, attempt: "Attempt", patience_s: float) -> Told:
        """Publish, and wait `patience_s` seconds for the broker's word.

        While the broker has blocked us (connection.blocked) the clock stands still: what was sent
        is taken afterwards, and sent again it would be one more request.

        Raises:
            Unavailable: we may not.
        """
        publishing = asyncio.get_running_loop().create_task(self._try(attempt))
        ends: tuple[asyncio.Future[Any], ...] = (publishing, self.ended)
        try:
            while not publishing.done():
                await asyncio.wait(
                    ends, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if self.ended.done() or not await self.line.blocked():
                    break
            return publishing.result() if publishing.done() else attempt.doubt()
        finally:
            publishing.cancel()

    async def broadcast(
        self, exchange: str, message: aio_pika.Message, patience_s: float
    ) -> None:
        """Publish once to a fanout, best effort; after `patience_s` seconds, in the background.

        It goes on without who waits here, and through a time in which the broker blocks us.
        """
        chore = self._begin(self._broadcast(exchange, message))
        if chore is not None:
            await asyncio.wait({chore}, timeout=patience_s)

    async def _broadcast(self, exchange: str, message: aio_pika.Message) -> None:
        with contextlib.suppress(Unavailable):
            await self.publish(
                Attempt(exchange, "", message, mandatory=False), BROADCAST_TIMEOUT_S
            )

    async def _try(self, attempt: "Attempt") -> Told:
        """Publish on a channel of its own, kept for the next if all went well.

        A refusal closes its channel, and with it every other publish under way there. And aiormq
        tells two publishes of one message_id on one channel apart by nothing.
        """
        channel: AbstractChannel | None = None
        fine = False
        try:
            async with self._places:
                await self.line.unblocked()
                channel = self._idle.pop() if self._idle else self.line.connection.channel()
                told = await attempt.run(channel)
            # A quorum queue whose leader failed nacks for ever on one channel (3.10).
            fine = told is not Told.FULL and not channel.is_closed
        except LINK_ERRORS:
            return attempt.doubt()
        finally:
            if fine and channel is not None:
                self._idle.append(channel)
            elif channel is not None and channel.is_initialized:
                self._begin(_close(channel))
        return told

    def _begin(self, chore: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        """Have something done in the background, as long as the session lives."""
        if self.ended.done():
            chore.close()
            return None
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task


class Attempt:
    """One publish, and whether it may have arrived."""

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        message: aio_pika.Message,
        *,
        mandatory: bool = True,
    ) -> None:
        self._exchange = exchange
        self._routing_key = routing_key
        self._message = message
        self._mandatory = mandatory
        self.perhaps_taken = False
        """It was sent, and the broker has not refused it."""

    def doubt(self) -> Told:
        """Return what is known of it without the broker's word."""
        return Told.UNKNOWN if self.perhaps_taken else Told.UNSENT

    async def run(self, channel: AbstractChannel) -> Told:
        """Publish. Raises one of LINK_ERRORS where the broker's word does not come."""
        with tracing.sending(self._exchange, self._routing_key, self._message) as tell:
            told = await self._publish(channel)
            tell(told.name.lower())
            return told

    async def _publish(self, channel: AbstractChannel) -> Told:
        if not channel.is_initialized:
            await channel.initialize()
        target = await channel.get_exchange(self._exchange, ensure=False)
        self.perhaps_taken = True
        try:
            answer = await target.publish(
                self._message, self._routing_key, mandatory=self._mandatory
            )
        except DeliveryError:
            return self._refused(Told.FULL)
        except (ChannelAccessRefused, ChannelPreconditionFailed) as error:
            self.perhaps_taken = False
            raise Unavailable(f"The broker refused it: {error}", retryable=False) from error
        except ChannelNotFoundEntity as error:
            self.perhaps_taken = False
            raise Unavailable(f"The service is not set up on this vhost: {error}") from error
        return Told.CONFIRMED if isinstance(answer, Basic.Ack) else self._refused(Told.RETURNED)

    def _refused(self, told: Told) -> Told:
        self.perhaps_taken = False
        return told


async def _close(channel: AbstractChannel) -> None:
    with contextlib.suppress(*LINK_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await channel.close()
