"""The depth: how many requests wait and how many consumers there are, asked of the broker each second."""

import asyncio

from aio_pika.abc import AbstractChannel

from consumer.connection import LINK_ERRORS, Session, while_alive
from consumer.forecast import Depth
from consumer.logs import logger
from consumer.topology import REQUESTS

log = logger(__name__)

ASK_EVERY_S = 1.0
ANSWER_S = 3.0
"""A broker that has not told by then may know it, but we do not."""


class Gauge:
    """Knows the depth while a session lives."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self.depth: Depth | None = None
        """None while it is not known."""
        self._session: Session | None = None
        """The one that is asked; another may be at its end still."""

    async def attach(self, session: Session) -> None:
        """Begin to ask on a channel of our own, as long as the session lives."""
        self._session = session
        channel = await session.consume.channel(publisher_confirms=False)
        await self._ask(channel)
        self._tasks.create_task(self._keep_asking(session, channel))

    async def _keep_asking(self, session: Session, channel: AbstractChannel) -> None:
        try:
            while session.alive:
                await asyncio.wait({session.ended}, timeout=ASK_EVERY_S)
                if session.alive:
                    await self._ask_again(session, channel)
        except LINK_ERRORS as error:
            # The queue was deleted, or the link went: others see to that.
            log.info("depth_unknown", problem=str(error))
        finally:
            if self._session is session:
                self._forget()

    async def _ask_again(self, session: Session, channel: AbstractChannel) -> None:
        """Ask, and know nothing any more if no answer comes; a late one counts again.

        The call itself is left alone: aiormq closes the channel of one that is given up.
        """
        too_late = asyncio.get_running_loop().call_later(ANSWER_S, self._forget)
        try:
            await while_alive(session, self._ask(channel))
        finally:
            too_late.cancel()

    def _forget(self) -> None:
        self.depth = None

    async def _ask(self, channel: AbstractChannel) -> None:
        queue = await channel.declare_queue(REQUESTS, passive=True)
        told = queue.declaration_result
        self.depth = Depth(told.message_count or 0, told.consumer_count or 0)
