"""The events: news of jobs for whoever listens, and for our siblings; best effort, never waited for."""

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode

from consumer import topology
from consumer.connection import LINK_ERRORS, Session, while_alive
from schemas.control import CONTROL_TYPE, Done
from schemas.events import EVENT_TYPE, EventState, JobEvent, routing_key

if TYPE_CHECKING:
    from aio_pika.abc import AbstractExchange

PUBLISH_TIMEOUT_S = 5.0
PENDING_MOST = 256
"""News that waits for the broker; beyond it the newest are dropped."""


class Events:
    """Publishes news from a bounded queue, so that no job ever waits for a listener."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._pending: asyncio.Queue[JobEvent | Done] = asyncio.Queue(PENDING_MOST)
        self._targets: tuple[Session, AbstractExchange, AbstractExchange] | None = None

    async def attach(self, session: Session) -> None:
        """Open a channel of our own, without confirms, on the publishing connection."""
        channel = await session.publish.channel(publisher_confirms=False)
        self._targets = (
            session,
            await channel.get_exchange(topology.EVENTS, ensure=False),
            await channel.get_exchange(topology.CONTROL, ensure=False),
        )

    def tell(self, job_id: str, state: EventState, step: int = 0, steps: int = 0) -> None:
        """Take a piece of news; returns at once."""
        event = JobEvent(
            job_id=job_id, state=state, step=step, steps=steps, worker=self._worker
        )
        self._put(event)

    def done(self, job_id: str) -> None:
        """Tell every consumer that this job has its end; returns at once."""
        self._put(Done(op="done", job_id=job_id, worker=self._worker))

    def _put(self, news: JobEvent | Done) -> None:
        if not self._pending.full():
            self._pending.put_nowait(news)

    async def run(self) -> None:
        """Publish what there is to tell, for ever."""
        while True:
            news = await self._pending.get()
            if self._targets is None:
                continue
            session, events, control = self._targets
            message = aio_pika.Message(
                news.model_dump_json().encode(),
                content_type="application/json",
                type=EVENT_TYPE if isinstance(news, JobEvent) else CONTROL_TYPE,
                message_id=str(uuid4()),
                delivery_mode=DeliveryMode.NOT_PERSISTENT,
            )
            if isinstance(news, JobEvent):
                publish = events.publish(message, routing_key(news), mandatory=False)
            else:
                publish = control.publish(message, "", mandatory=False)
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await while_alive(session, publish)
            except LINK_ERRORS:
                # The next session brings other exchanges; this piece of news is lost.
                self._targets = None
