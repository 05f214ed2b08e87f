"""The intake: the consumer of requests. Takes deliveries while it may, and sees each one settled."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import uuid4

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from consumer import tracing
from consumer.admission import Delivery, Limits, NobodyToTell, Refusal, admit
from consumer.answers import SETTLE_TIMEOUT_S, Answers, Taken
from consumer.connection import LINK_ERRORS, Session, while_alive
from consumer.flights import DEFECT, Flights
from consumer.job import AnsweredBefore, Failed, GivenBack, Job, Outcome, Refused, Unanswerable
from consumer.logs import about, logger, note
from consumer.metrics import Metrics
from consumer.topology import REQUESTS

log = logger(__name__)

FULL_QUEUE_PATIENCE = timedelta(seconds=30)
"""For a reply queue that is full: each try of one caller's holds up all the others."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the intake works with."""

    limits: Limits
    flights: Flights
    answers: Answers
    metrics: Metrics
    tasks: asyncio.TaskGroup
    prefetch: int
    worker: str
    shared_store: bool
    """The store is reached by every consumer of the queue."""
    on_change: Callable[[], None]
    """Called when the taking began or ended."""


@dataclass(slots=True, eq=False)
class Held:
    """A delivery that is under way."""

    since: float
    """Monotonic seconds of its receipt."""
    job_id: str | None = None
    """None until it was read."""


@dataclass(slots=True)
class InHand:
    """What is under way."""

    held: dict[str, Held] = field(default_factory=dict)
    """By the id of the receipt, in the order in which they were taken."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def deliveries(self) -> int:
        """How many."""
        return len(self.held)

    @property
    def oldest(self) -> Held | None:
        """The one that was taken first."""
        return next(iter(self.held.values()), None)

    def take(self, taken: Taken) -> None:
        """Take note of a delivery."""
        self.held[taken.delivery.receipt_id] = Held(taken.received)
        self.idle.clear()

    def read(self, taken: Taken, job_id: str) -> None:
        """Take note of whose it is."""
        self.held[taken.delivery.receipt_id].job_id = job_id

    def let_go(self, taken: Taken) -> None:
        """Take note that nothing more is done for it."""
        del self.held[taken.delivery.receipt_id]
        if not self.held:
            self.idle.set()


@dataclass(slots=True)
class _Consumer:
    """The consumer of one session; `tag` is None while it takes nothing."""

    session: Session
    queue: AbstractQueue
    tag: str | None = None


class Intake:
    """The consumer of `imagegen.requests`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._consumer: _Consumer | None = None
        self._may_take = True
        self._switching = asyncio.Lock()
        self.in_hand = InHand()
        self.in_hand.idle.set()

    @property
    def taking(self) -> bool:
        """Whether the broker hands us requests."""
        consumer = self._consumer
        return consumer is not None and consumer.tag is not None and consumer.session.alive

    # ------------------------------------------------------------ take

    async def attach(self, session: Session) -> None:
        """Open the channel of a new generation, and start its consumer if we may take."""
        channel = await session.consume.channel(publisher_confirms=False)
        session.watch_channel(channel, "requests")
        await channel.set_qos(prefetch_count=self._desk.prefetch)
        await session.watch_consumer(channel, REQUESTS)
        queue = await channel.declare_queue(REQUESTS, passive=True)
        self._warn_of_others(queue.declaration_result.consumer_count or 0)
        async with self._switching:
            self._consumer = _Consumer(session, queue)
            if self._may_take:
                await self._start(self._consumer)

    async def take(self) -> None:
        """Take requests, now and on every later session."""
        self._may_take = True
        async with self._switching:
            consumer = self._consumer
            if consumer is None or consumer.tag is not None or not consumer.session.alive:
                return
            try:
                await self._start(consumer)
                log.info("taking")
            except LINK_ERRORS as error:
                consumer.session.lose(f"the consumer could not be started: {error}")

    async def stop_taking(self) -> None:
        """Take nothing more, until `take`. May be called twice."""
        self._may_take = False
        async with self._switching:
            consumer = self._consumer
            if consumer is None or consumer.tag is None:
                return
            tag, consumer.tag = consumer.tag, None
            try:
                async with asyncio.timeout(SETTLE_TIMEOUT_S):
                    await while_alive(consumer.session, consumer.queue.cancel(tag))
            except TimeoutError:
                consumer.session.lose("the consumer could not be cancelled")
            except LINK_ERRORS:
                log.info("consumer_already_gone")
            self._desk.on_change()
            log.info("taking_stopped")

    async def _start(self, consumer: _Consumer) -> None:
        """Start a consumer; its prefetch was set before."""

        async def on_message(message: AbstractIncomingMessage) -> None:
            # aiormq cancels this callback's task with the channel; the job lives in ours.
            taken = Taken(facts(message), message, consumer.session, REQUESTS)
            self._desk.tasks.create_task(self._handle(taken))

        # A new tag each time: 4.3 refuses one that it remembers as cancelled.
        tag = f"{self._desk.worker}.{consumer.session.generation}.{secrets.token_hex(4)}"
        start = consumer.queue.consume(on_message, consumer_tag=tag)
        await while_alive(consumer.session, start)
        consumer.tag = tag
        self._desk.on_change()

    def _warn_of_others(self, consumers: int) -> None:
        if consumers and not self._desk.shared_store:
            log.warning(
                "other_consumers",
                consumers=consumers,
                problem="The queue has other consumers, and our store is a file: a job that one on "
                "another machine began is drawn again, not answered from its result.",
                remedy="give all of them one IMAGE_GEN_STORE_URL",
            )

    # ------------------------------------------------------------ one delivery

    async def _handle(self, taken: Taken) -> None:
        in_hand, metrics = self.in_hand, self._desk.metrics
        metrics.deliveries.labels(str(taken.delivery.redelivered).lower()).inc()
        in_hand.take(taken)
        metrics.in_progress.set(in_hand.deliveries)
        try:
            with (
                tracing.processing(taken.message, REQUESTS),
                about(tracing.trace_id(taken.delivery.headers)),
            ):
                await self._see_to(taken)
        finally:
            in_hand.let_go(taken)
            metrics.in_progress.set(in_hand.deliveries)

    async def _see_to(self, taken: Taken) -> None:
        log.debug("taken", redelivered=taken.delivery.redelivered)
        job_id, outcome = await self._decide(taken)
        if isinstance(outcome, GivenBack):
            # It would come straight back to us: take nothing until all is well again.
            await self.stop_taking()
        nacks_until = datetime.now(tz=UTC) + FULL_QUEUE_PATIENCE
        await self._desk.answers.give(taken, job_id, outcome, nacks_until)

    async def _decide(self, taken: Taken) -> tuple[str, Outcome]:
        try:
            with self._desk.metrics.stage("validate"), tracing.stage("validate"):
                decision = admit(taken.delivery, datetime.now(tz=UTC), self._desk.limits)
        except Exception:
            # A defect of ours costs one answer, not the consumer.
            log.exception("admission_broke", body_bytes=len(taken.delivery.body))
            return taken.delivery.receipt_id, Failed(DEFECT)
        if isinstance(decision, NobodyToTell):
            return await self._leave_word(decision)
        job_id = decision.job_id if isinstance(decision, Refusal) else decision.id
        self.in_hand.read(taken, job_id)
        delivery, answers = taken.delivery, self._desk.answers
        if await answers.was_given(delivery, job_id, again=delivery.redelivered):
            return job_id, AnsweredBefore()
        match decision:
            case Refusal():
                return job_id, await self._refuse(decision)
            case Job() as job if self._may_take:
                note(waited_s=round((datetime.now(tz=UTC) - job.published).total_seconds(), 3))
                return job_id, await self._desk.flights.outcome(job, delivery)
            case Job():
                return job_id, GivenBack()
        assert_never(decision)

    async def _leave_word(self, nobody: NobodyToTell) -> tuple[str, Outcome]:
        """Tell in the store what nobody can be told: there somebody may look for this job."""
        refusal = nobody.refusal
        if refusal is not None and await self._desk.flights.close_waiting(
            refusal.job_id, refusal.body_sha256, Refused(refusal.fault)
        ):
            return refusal.job_id, Refused(refusal.fault)
        return "", Unanswerable(nobody.reason)

    async def _refuse(self, refusal: Refusal) -> Outcome:
        """Refuse, also in the store where the job waits."""
        outcome = Refused(refusal.fault)
        await self._desk.flights.close_waiting(refusal.job_id, refusal.body_sha256, outcome)
        return outcome


def facts(message: AbstractIncomingMessage) -> Delivery:
    """Return what the broker handed over, as plain facts."""
    return Delivery(
        body=message.body,
        receipt_id=str(uuid4()),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        type=message.type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration_s=_seconds(message.expiration),
        timestamp=message.timestamp,
        user_id=message.user_id,
        redelivered=bool(message.redelivered),
        headers=dict(message.headers),
    )


def _seconds(expiration: object) -> float | None:
    return float(expiration) if isinstance(expiration, (int, float)) else None
