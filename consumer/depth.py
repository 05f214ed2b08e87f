"""The depth: how many requests wait and how many consumers there are, asked of the broker each second."""

import asyncio

from aio_pika.abc import AbstractChannel

from consumer.connection import LINK_ERRORS, Session, while_alive
from consumer.forecast import Depth
from consumer.logs import logger
from consumer.topology import REQUESTS

log = logger(__name__)

ASK_EVERY_S = 1.0


class Gauge:
    """Knows the depth while a session lives."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self.depth: Depth | None = None
        """None while it is not known."""

    async def attach(self, session: Session) -> None:
        """Begin to ask on a channel of our own, as long as the session lives."""
        channel = await session.consume.channel(publisher_confirms=False)
        await self._ask(channel)
        self._tasks.create_task(self._keep_asking(session, channel))

    async def _keep_asking(self, session: Session, channel: AbstractChannel) -> None:
        try:
            while session.alive:
                await asyncio.wait({session.ended}, timeout=ASK_EVERY_S)
                if session.alive:
                    await while_alive(session, self._ask(channel))
        except LINK_ERRORS as error:
            # The queue was deleted, or the link went: others see to that.
            log.info("depth_unknown", problem=str(error))
        finally:
            self.depth = None

    async def _ask(self, channel: AbstractChannel) -> None:
        queue = await channel.declare_queue(REQUESTS, passive=True)
        told = queue.declaration_result
        self.depth = Depth(told.message_count or 0, told.consumer_count or 0)
