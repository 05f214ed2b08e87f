"""The expired reader: answers what the broker dead-lettered without handing it to us."""

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from consumer import job, topology, tracing
from consumer.admission import Delivery, Limits, job_identity, unaddressable
from consumer.answers import Answers, Taken
from consumer.connection import LINK_ERRORS, Session
from consumer.errors import Fault
from consumer.flights import Flights
from consumer.intake import facts
from consumer.logs import about, logger, note
from consumer.metrics import Metrics
from schemas.errors import ErrorCode

log = logger(__name__)

PREFETCH = 10
ATTACH_AGAIN_S = 10.0
NACK_PATIENCE_S = 60
"""For a reply queue that is full."""

FAULTS = {
    "expired": Fault(
        ErrorCode.DEADLINE_EXCEEDED,
        "The request waited in the queue until its deadline. Send it again with more patience.",
    ),
    "delivery_limit": Fault(
        ErrorCode.POISON,
        "The request was delivered too often without an end and is not tried again.",
    ),
}
OTHER_FAULT = Fault(
    ErrorCode.INTERNAL, "The broker took the request out of the queue. Send it again."
)


class Expired:
    """The consumer of `imagegen.expired`."""

    def __init__(
        self,
        answers: Answers,
        flights: Flights,
        limits: Limits,
        metrics: Metrics,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._answers = answers
        self._flights = flights
        self._limits = limits
        self._metrics = metrics
        self._tasks = tasks

    async def attach(self, session: Session) -> None:
        """Start reading, on a channel and with a prefetch of its own.

        Where the queue is not there, or its node is down, requests are taken all the same, and
        it is tried again from time to time.
        """
        try:
            await self._read(session)
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            log.warning(
                "dead_letters_unread",
                problem=f"What runs out in the queue is answered by nobody: {error}",
                remedy=f"create {topology.EXPIRED}, and let our user read it",
            )
            self._tasks.create_task(self._attach_later(session))

    async def _attach_later(self, session: Session) -> None:
        await asyncio.wait({session.ended}, timeout=ATTACH_AGAIN_S)
        if session.alive:
            with contextlib.suppress(*LINK_ERRORS):
                await self.attach(session)

    async def _read(self, session: Session) -> None:
        channel = await session.consume.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(topology.EXPIRED, ensure=False)

        async def on_message(message: AbstractIncomingMessage) -> None:
            self._tasks.create_task(self._answer(message, session))

        await queue.consume(on_message)
        await session.watch_consumer(channel, topology.EXPIRED)
        session.watch_channel(channel, "expired")

    async def _answer(self, message: AbstractIncomingMessage, session: Session) -> None:
        taken = Taken(facts(message), message, session, topology.EXPIRED)
        delivery, metrics = taken.delivery, self._metrics
        metrics.deliveries.labels(str(delivery.redelivered).lower()).inc()
        nacks_until = datetime.now(tz=UTC) + timedelta(seconds=NACK_PATIENCE_S)
        with (
            tracing.processing(message, topology.EXPIRED),
            about(tracing.trace_id(delivery.headers)),
        ):
            why = reason(message.headers)
            note(dead_letter=why or "unknown")
            if why == "expired" and delivery.timestamp is not None:
                note(waited_s=round(taken.age_s, 3))
                metrics.queue_wait_seconds.observe(taken.age_s)
            job_id, outcome = await self._decided(delivery, why)
            await self._answers.give(taken, job_id, outcome, nacks_until)

    async def _decided(self, delivery: Delivery, why: str) -> tuple[str, job.Outcome]:
        try:
            return await self._decide(delivery, why)
        except Exception:
            # A defect of ours must not bring the service down with each redelivery.
            log.exception("dead_letter_broke")
            return "", job.Unanswerable("internal")

    async def _decide(self, delivery: Delivery, why: str) -> tuple[str, job.Outcome]:
        unaddressed = unaddressable(delivery, self._limits)
        if unaddressed is not None:
            return "", job.Unanswerable(unaddressed)
        fault = FAULTS.get(why, OTHER_FAULT)
        body_sha256 = hashlib.sha256(delivery.body).hexdigest()
        job_id, _ = job_identity(delivery, body_sha256)
        end = job.Expired(fault) if why == "expired" else job.Failed(fault)
        await self._flights.close_waiting(job_id, body_sha256, end)
        if await self._answers.was_given(delivery, job_id, again=True):
            return job_id, job.AnsweredBefore()
        return job_id, end


def reason(headers: Any) -> str:
    """Return why the broker dead-lettered a message, from its newest `x-death` entry."""
    deaths = headers.get("x-death")
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return ""
    return str(deaths[0].get("reason", ""))
