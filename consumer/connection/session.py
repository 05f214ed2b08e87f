"""The session: one generation of both connections, and calls that end with it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from aio_pika.abc import AbstractChannel, AbstractConnection

from consumer.connection.link import CLOSE_TIMEOUT_S

T = TypeVar("T")

LAST_WORD_S = 0.1


class Loss(StrEnum):
    """How a session was lost."""

    CONNECTION_CLOSED = "connection_closed"
    CHANNEL_CLOSED = "channel_closed"
    SERVER_CANCEL = "server_cancel"
    """The broker cancelled a consumer of ours."""
    SILENT = "silent"
    STUCK = "stuck"
    """A call of ours did not get through on a link that looks alive."""
    NOT_ATTACHED = "not_attached"
    """It never stood: a channel or a consumer could not be had."""


@dataclass(slots=True)
class Session:
    """One generation: both connections, until anything ends either."""

    generation: int
    consume: AbstractConnection
    publish: AbstractConnection
    ended: "asyncio.Future[str]"
    """Resolves to the reason of the first thing that went wrong."""
    idle_channels: list[AbstractChannel] = field(default_factory=list)
    queues_gone: set[str] = field(default_factory=set)
    """Whose consumer the broker cancelled: what they had handed out does not come again."""
    loss: Loss | None = None

    def lose(self, reason: str, loss: Loss = Loss.STUCK) -> None:
        """End this generation; the first reason is kept."""
        if not self.ended.done():
            self.loss = loss
            self.ended.set_result(reason)

    @property
    def alive(self) -> bool:
        """Deliveries of a session that is not are forgotten: the broker brings them again."""
        return not self.ended.done()

    @property
    def blocked(self) -> bool:
        """The broker takes no publish for now: it is short of memory or disk.

        aiormq hears it from the broker and keeps it to itself.
        """
        transport = self.publish.transport
        if transport is None:
            return False
        unblocked: asyncio.Event | None = getattr(
            transport.connection, "_Connection__connection_unblocked", None
        )
        return unblocked is not None and not unblocked.is_set()

    def watch_channel(self, channel: AbstractChannel, name: str) -> None:
        """End the session when a channel that it cannot do without closes."""
        channel.close_callbacks.add(
            lambda *_: self.lose(f"channel {name} closed", Loss.CHANNEL_CLOSED)
        )

    async def watch_consumer(self, channel: AbstractChannel, queue: str) -> None:
        """End the session when the broker cancels this channel's consumer: its queue is gone."""

        def cancelled(_: object) -> None:
            self.queues_gone.add(queue)
            self.lose(f"the broker cancelled the consumer of {queue}", Loss.SERVER_CANCEL)

        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(cancelled)


async def while_alive(session: Session, work: Coroutine[Any, Any, T]) -> T:
    """Await a call of the AMQP library, to the end of the session at the most.

    aiormq cancels whoever waits for an answer when it closes a link that gives none any more, and
    a task that was cancelled so is missed by nobody; who waits for bytes to leave gets a bare
    Exception from it.

    Raises:
        ConnectionError: the session ended first, or the link broke.
    """
    call = asyncio.get_running_loop().create_task(work)
    waited_for: set[asyncio.Future[Any]] = {call, session.ended}
    try:
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        # What ended the session may be told to the call as well, and says more.
        await asyncio.wait({call}, timeout=LAST_WORD_S)
        if not call.done() or call.cancelled():
            raise ConnectionError("the session ended")
        return call.result()
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionError("the link broke") from error
        raise
    finally:
        call.cancel()
        await asyncio.wait({call}, timeout=CLOSE_TIMEOUT_S)
        if call.done() and not call.cancelled():
            call.exception()  # looked at, or the loop would complain of it
