"""The events: news of jobs for whoever listens; best effort, never waited for."""

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode

from consumer import topology
from consumer.connection import LINK_ERRORS, Session
from schemas.events import EVENT_TYPE, EventState, JobEvent, routing_key

if TYPE_CHECKING:
    from aio_pika.abc import AbstractExchange

PENDING_MOST = 256
"""News that waits for the broker; beyond it the newest are dropped."""


class Events:
    """Publishes news from a bounded queue, so that no job ever waits for a listener."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._pending: asyncio.Queue[JobEvent] = asyncio.Queue(PENDING_MOST)
        self._exchange: AbstractExchange | None = None

    async def attach(self, session: Session) -> None:
        """Open a channel of our own, without confirms, on the publishing connection."""
        channel = await session.publish.channel(publisher_confirms=False)
        self._exchange = await channel.get_exchange(topology.EVENTS, ensure=False)

    def tell(self, job_id: str, state: EventState, step: int = 0, steps: int = 0) -> None:
        """Take a piece of news; returns at once."""
        event = JobEvent(
            job_id=job_id, state=state, step=step, steps=steps, worker=self._worker
        )
        if not self._pending.full():
            self._pending.put_nowait(event)

    async def run(self) -> None:
        """Publish what there is to tell, for ever."""
        while True:
            event = await self._pending.get()
            if self._exchange is None:
                continue
            message = aio_pika.Message(
                event.model_dump_json().encode(),
                content_type="application/json",
                type=EVENT_TYPE,
                message_id=str(uuid4()),
                delivery_mode=DeliveryMode.NOT_PERSISTENT,
            )
            try:
                async with asyncio.timeout(5):
                    await self._exchange.publish(message, routing_key(event), mandatory=False)
            except LINK_ERRORS:
                # The next session brings another exchange; this piece of news is lost.
                self._exchange = None
