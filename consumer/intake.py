"""The intake: takes deliveries, sees each job through once, answers every delivery, settles it."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import uuid4

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from sqlalchemy.exc import SQLAlchemyError

from consumer.admission import Delivery, Limits, NobodyToTell, Refusal, admit
from consumer.connection import LINK_ERRORS, Session
from consumer.errors import Fault
from consumer.events import Events
from consumer.job import (
    SETTLEMENT,
    Abandoned,
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    Job,
    Outcome,
    Poison,
    Refused,
    Succeeded,
    Unanswerable,
)
from consumer.logs import logger
from consumer.metrics import Metrics
from consumer.replies import Patience, Replies
from consumer.runner import Runner, Stop, StopCause
from consumer.store import Conflict, Finished, Started, Store
from consumer.topology import REQUESTS
from schemas.errors import ErrorCode
from schemas.events import EventState

log = logger(__name__)

ACK_TIMEOUT_S = 3.0
MOST_PATIENCE = timedelta(seconds=600)
"""For a reply queue that is full."""

_DEFECT = Fault(
    ErrorCode.INTERNAL, "The service has a defect; its log has the reason. Try again later."
)
_CONFLICT = Fault(
    ErrorCode.IDEMPOTENCY_CONFLICT,
    "This message_id was used before with another body. Give every request an id of its own.",
)


@dataclass(slots=True)
class Flight:
    """One job under way here; every delivery of it waits for the same outcome."""

    job: Job
    stop: Stop
    outcome: "asyncio.Task[Outcome]"


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery in our hands."""

    delivery: Delivery
    message: AbstractIncomingMessage
    session: Session
    deadline: datetime
    """Until then a reply queue that is full is tried again."""

    def alive(self) -> bool:
        """Whether it can still be settled; else the broker brings it again."""
        return self.session.alive

    @property
    def patience(self) -> Patience:
        """How long its answer is tried."""
        return Patience(self.alive, self.deadline)


@dataclass(slots=True)
class Desk:
    """What the intake works with."""

    limits: Limits
    store: Store
    runner: Runner
    replies: Replies
    events: Events
    metrics: Metrics
    tasks: asyncio.TaskGroup
    prefetch: int
    worker: str
    shared_store: bool
    """The store is reached by every consumer of the queue."""


@dataclass(slots=True)
class InHand:
    """What is under way."""

    flights: dict[str, Flight] = field(default_factory=dict)
    deliveries: int = 0
    last_success: datetime | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Intake:
    """The consumer of `imagegen.requests`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._consumer: tuple[Session, AbstractQueue, str] | None = None
        self._taking = True
        self.in_hand = InHand()
        self.in_hand.idle.set()

    # ------------------------------------------------------------ take

    async def attach(self, session: Session) -> None:
        """Start the consumer of a new generation; prefetch is set before it."""
        if self._told_to_stop():
            return
        channel = await session.consume.channel(publisher_confirms=False)
        session.watch_channel(channel, "requests")
        await channel.set_qos(prefetch_count=self._desk.prefetch)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(
            lambda _: session.lose("the broker cancelled the consumer")
        )
        queue = await channel.declare_queue(REQUESTS, passive=True)
        self._warn_of_others(queue.declaration_result.consumer_count or 0)

        async def on_message(message: AbstractIncomingMessage) -> None:
            # aiormq cancels this callback's task with the channel; the job lives in ours.
            delivery = facts(message)
            patience = min(
                timedelta(seconds=delivery.expiration_s or MOST_PATIENCE.total_seconds()),
                MOST_PATIENCE,
            )
            taken = Taken(delivery, message, session, datetime.now(tz=UTC) + patience)
            self._desk.tasks.create_task(self._handle(taken))

        # A new tag each time: 4.3 refuses one that it remembers as cancelled.
        tag = f"{self._desk.worker}.{session.generation}.{secrets.token_hex(4)}"
        await queue.consume(on_message, consumer_tag=tag)
        self._consumer = (session, queue, tag)
        if self._told_to_stop():  # while this was under way
            await self.stop_taking()

    def _told_to_stop(self) -> bool:
        return not self._taking

    def _warn_of_others(self, consumers: int) -> None:
        if consumers and not self._desk.shared_store:
            log.warning(
                "other_consumers",
                consumers=consumers,
                problem="The queue has other consumers, and our store is a file of this machine: "
                "a job that another began is drawn again, not answered from its result.",
                remedy="give all of them one IMAGE_GEN_STORE_URL",
            )

    async def stop_taking(self) -> None:
        """Take nothing more; what was prefetched and not begun goes back. May be called twice."""
        self._taking = False
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        session, queue, tag = consumer
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await queue.cancel(tag)
        except TimeoutError:
            session.lose("the consumer could not be cancelled")
        except LINK_ERRORS:
            log.info("consumer_already_gone")

    def give_everything_back(self) -> None:
        """Stop the work in hand at its next step and requeue it."""
        for flight in self.in_hand.flights.values():
            flight.stop.request(StopCause.SHUTDOWN)

    async def cancel(self, job_id: str) -> None:
        """Stop a job that is here, or remember that it is not wanted."""
        flight = self.in_hand.flights.get(job_id)
        if flight is not None:
            flight.stop.request(StopCause.CANCELLED)
        else:
            await self._desk.store.remember_cancel(job_id)

    # ------------------------------------------------------------ one delivery

    async def _handle(self, taken: Taken) -> None:
        in_hand, metrics = self.in_hand, self._desk.metrics
        metrics.deliveries.labels(str(taken.delivery.redelivered).lower()).inc()
        in_hand.deliveries += 1
        in_hand.idle.clear()
        metrics.in_progress.set(in_hand.deliveries)
        try:
            job_id, outcome = await self._decide(taken)
            await self._answer(taken, job_id, outcome)
        finally:
            in_hand.deliveries -= 1
            metrics.in_progress.set(in_hand.deliveries)
            if not in_hand.deliveries:
                in_hand.idle.set()

    async def _decide(self, taken: Taken) -> tuple[str, Outcome]:
        try:
            decision = admit(taken.delivery, datetime.now(tz=UTC), self._desk.limits)
        except Exception:
            # A defect of ours costs one answer, not the consumer.
            log.exception("admission_broke", body_bytes=len(taken.delivery.body))
            return taken.delivery.receipt_id, Failed(_DEFECT)
        match decision:
            case NobodyToTell(reason=reason):
                return "", Unanswerable(reason)
            case Refusal(job_id=job_id, fault=fault):
                return job_id, Refused(fault)
            case Job() as job:
                return job.id, await self._outcome(job, taken.delivery)
        assert_never(decision)

    async def _outcome(self, job: Job, delivery: Delivery) -> Outcome:
        """Join the flight of this job, or start one. A delivery that is dropped leaves it be."""
        flight = self.in_hand.flights.get(job.id)
        if flight is None:
            if not self._taking:
                return GivenBack()
            stop = Stop()
            redelivered = delivery.redelivered
            task = self._desk.tasks.create_task(self._fly(job, stop, redelivered=redelivered))
            flight = self.in_hand.flights[job.id] = Flight(job, stop, task)
        elif flight.job.body_sha256 != job.body_sha256:
            return Refused(_CONFLICT)
        else:
            self._desk.metrics.joins.inc()
        return await asyncio.shield(flight.outcome)

    async def _fly(self, job: Job, stop: Stop, *, redelivered: bool) -> Outcome:
        """See one job through: begin in the store, run, write the outcome down."""
        try:
            begun = await self._desk.store.begin(job, redelivered=redelivered)
            match begun:
                case Conflict():
                    return Refused(_CONFLICT)
                case Finished(outcome=outcome):
                    self._desk.metrics.replays.inc()
                    return outcome
                case Started():
                    outcome = await self._run(job, begun, stop)
                    await self._desk.store.finish(job.id, outcome)
                    return outcome
            assert_never(begun)
        except SQLAlchemyError:
            raise  # without its store the service stops, and the broker keeps the work
        except Exception:
            # A defect of ours costs one answer, not the consumer.
            log.exception("job_broke", job_id=job.id)
            return Failed(_DEFECT)
        finally:
            del self.in_hand.flights[job.id]

    async def _run(self, job: Job, begun: Started, stop: Stop) -> Outcome:
        events = self._desk.events
        log.info("started", job_id=job.id, attempt=begun.attempt)
        events.tell(job.id, "running", 0, job.drawing.forwards)
        outcome = await self._desk.runner.execute(
            job, begun, stop, lambda step, steps: events.tell(job.id, "step", step, steps)
        )
        news = _NEWS.get(type(outcome))
        if news is not None:
            events.tell(job.id, news, job.drawing.forwards, job.drawing.forwards)
        if isinstance(outcome, Succeeded):
            self.in_hand.last_success = datetime.now(tz=UTC)
            self._observe(outcome)
        return outcome

    def _observe(self, outcome: Succeeded) -> None:
        metrics, facts_ = self._desk.metrics, outcome.facts
        metrics.queue_wait.observe(facts_.timings.queued)
        metrics.generation.observe(facts_.generation_time)
        for stage, seconds in facts_.timings.model_dump(exclude={"queued"}).items():
            metrics.stages.labels(stage).observe(seconds)

    # ------------------------------------------------------------ answer and settle

    async def _answer(self, taken: Taken, job_id: str, outcome: Outcome) -> None:
        """Do what the table says: park, reply, and only then settle."""
        settlement = SETTLEMENT[type(outcome)]
        end = "none"
        if settlement.park:
            end = await self._park(taken, outcome)
        if settlement.reply != "none" and taken.delivery.reply_to and end != "forgotten":
            end = await self._reply(taken, job_id, outcome)
        log.info(
            "settled",
            job_id=job_id or None,
            correlation_id=taken.delivery.correlation_id,
            outcome=type(outcome).__name__.lower(),
            code=_code(outcome),
            reply=end,
            redelivered=taken.delivery.redelivered,
        )
        if end != "forgotten":
            self._desk.metrics.requests.labels(type(outcome).__name__.lower()).inc()
            await _settle(taken, requeue=settlement.settle == "requeue")

    async def _park(self, taken: Taken, outcome: Outcome) -> str:
        reason = outcome.reason if isinstance(outcome, Unanswerable) else "poison"
        published = await self._desk.replies.park(taken.delivery, reason, taken.patience)
        if published is None:
            return "forgotten"
        self._desk.metrics.parked.inc()
        log.warning("parked", reason=reason, end=published.value)
        return published.value

    async def _reply(self, taken: Taken, job_id: str, outcome: Outcome) -> str:
        replies, delivery = self._desk.replies, taken.delivery
        match outcome:
            case Succeeded():
                published = await replies.send_result(delivery, outcome, taken.patience)
            case (
                Refused(fault=fault)
                | Expired(fault=fault)
                | Cancelled(fault=fault)
                | Failed(fault=fault)
                | Poison(fault=fault)
            ):
                self._desk.metrics.errors.labels(fault.code.value).inc()
                published = await replies.send_error(delivery, job_id, fault, taken.patience)
            case Abandoned() | Unanswerable() | GivenBack():
                return "none"
            case _:
                assert_never(outcome)
        end = "forgotten" if published is None else published.value
        self._desk.metrics.replies.labels(end).inc()
        return end


_NEWS: Mapping[type[Outcome], EventState] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Refused: "failed",
    Poison: "failed",
    Cancelled: "cancelled",
    Expired: "expired",
}


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


def _code(outcome: Outcome) -> str | None:
    fault = getattr(outcome, "fault", None)
    return fault.code.value if isinstance(fault, Fault) else None


async def _settle(taken: Taken, *, requeue: bool) -> None:
    """Ack, or give back. On a dead link it is forgotten: the redelivery is answered instead."""
    try:
        async with asyncio.timeout(ACK_TIMEOUT_S):
            if requeue:
                await taken.message.nack(requeue=True)
            else:
                await taken.message.ack()
    except TimeoutError:
        # Unsettled on a live session it would hold its place for ever.
        taken.session.lose("a settlement did not go out")
    except LINK_ERRORS as error:
        log.info("settlement_forgotten", problem=str(error))
