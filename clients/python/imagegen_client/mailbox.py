"""The mailbox: the queue that replies go to, and the word that it was lost with what lay in it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import ChannelClosed

from imagegen_client.dial import DIAL_TIMEOUT_S, LINK_ERRORS

ReplyQueue = Literal["durable", "exclusive"]
"""`durable` outlives a lost connection; `exclusive` goes with it, and needs no name of ours."""

QUEUE_PREFIX = "imagegen.client."
EXPIRES_MS = 5 * 60 * 1000
"""A durable reply queue that nobody reads is removed by the broker after this."""

OnMessage = Callable[[AbstractIncomingMessage], None]


@dataclass(frozen=True, slots=True)
class Address:
    """A reply queue. Replies on the way to one that is lost do not come any more."""

    name: str
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Mailbox:
    """Reads the reply queue, on one connection after the other."""

    def __init__(self, kind: ReplyQueue, on_reply: OnMessage) -> None:
        self._kind = kind
        self._on_reply = on_reply
        self._address: Address | None = None
        self._reading: tuple[AbstractQueue, str] | None = None

    async def open(
        self, connection: AbstractConnection, on_end: Callable[[str], None]
    ) -> Address:
        """Read on this connection: the queue from before where it is still there, or a new one.

        `on_end` is called when the queue cannot be read on this connection any more.
        """
        queue = await self._still_there(connection)
        if queue is None:
            queue = await self._declare(await connection.channel(publisher_confirms=False))
            self._address = Address(queue.name)
        queue.channel.close_callbacks.add(lambda *_: on_end("the reply channel was closed"))
        underlay = await queue.channel.get_underlay_channel()
        # Deleted, or its node is gone: the next connection finds out which.
        underlay.on_consumer_cancel_callbacks.add(lambda _: on_end("the reply queue is gone"))
        self._reading = (queue, await queue.consume(self._take))
        assert self._address is not None  # noqa: S101 - it has one as it has a queue
        return self._address

    async def leave(self) -> None:
        """Remove the queue. May be called twice."""
        reading, self._reading = self._reading, None
        if reading is not None:
            queue, tag = reading
            await queue.cancel(tag)
            await queue.delete(if_unused=False, if_empty=False)
        self.lose()

    def lose(self) -> None:
        """Say that nothing comes there any more."""
        if self._address is not None:
            self._address.lost.set()
            self._address = None

    async def _still_there(self, connection: AbstractConnection) -> AbstractQueue | None:
        """Return the queue from before; None, and lost, where it went with what lay in it.

        "Not found" covers deleted, expired, and "its home node is down". Any other refusal, or
        no word within DIAL_TIMEOUT_S, counts as lost too: asking twice costs less than silence.
        """
        if self._address is not None and self._kind == "durable":
            channel = await connection.channel(publisher_confirms=False)
            with contextlib.suppress(ChannelClosed, TimeoutError):
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    return await channel.declare_queue(self._address.name, passive=True)
        self.lose()
        return None

    async def _declare(self, channel: AbstractChannel) -> AbstractQueue:
        if self._kind == "exclusive":
            return await channel.declare_queue("", exclusive=True)
        return await channel.declare_queue(
            f"{QUEUE_PREFIX}{uuid4()}",
            durable=True,
            arguments={"x-queue-type": "classic", "x-expires": EXPIRES_MS},
        )

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._on_reply(message)
        with contextlib.suppress(*LINK_ERRORS):  # it comes again then, and is a duplicate
            await message.ack()
