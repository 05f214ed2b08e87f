"""The answers: does for a delivery what the settlement table says: park, reply, only then settle."""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, assert_never

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from consumer import tracing
from consumer.admission import Delivery
from consumer.connection import LINK_ERRORS, Published, Session, while_alive
from consumer.errors import Fault
from consumer.job import (
    SETTLEMENT,
    Abandoned,
    AnsweredBefore,
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    Outcome,
    Poison,
    Refused,
    Succeeded,
    Unanswerable,
)
from consumer.keeper import Keeper
from consumer.logs import logger, note, noted
from consumer.metrics import Metrics
from consumer.replies import Patience, Replies, error_message

log = logger(__name__)

SETTLE_TIMEOUT_S = 3.0
DAY_S = 86_400.0
"""Older requests than that are taken for having a wrong timestamp."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery in our hands."""

    delivery: Delivery
    message: AbstractIncomingMessage
    session: Session
    queue: str
    received: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""

    @property
    def held_s(self) -> float:
        """Seconds since its receipt."""
        return time.monotonic() - self.received

    @property
    def age_s(self) -> float:
        """Seconds since its publish, by its timestamp; since its receipt where that cannot be."""
        held, published = self.held_s, self.delivery.timestamp
        if published is None:
            return held
        age = (datetime.now(tz=UTC) - published.replace(tzinfo=UTC)).total_seconds()
        return age if held <= age <= DAY_S else held

    def alive(self) -> bool:
        """Whether its answer is ours to give; else the broker brings it again.

        Where its queue was deleted the broker brings nothing: it is answered, and not settled.
        """
        return self.session.alive or self.queue in self.session.queues_gone


class Answers:
    """Answers deliveries, each on its own, and settles them."""

    def __init__(self, replies: Replies, store: Keeper, metrics: Metrics) -> None:
        self._replies = replies
        self._store = store
        self._metrics = metrics

    async def was_given(self, delivery: Delivery, job_id: str, *, again: bool) -> bool:
        """Tell whether the broker confirmed an answer to this delivery, only our ack being lost.

        `again`: it came to us, or to a sibling, before. One that did not is a new request, though
        the caller may have used all its ids before.
        """
        if not delivery.reply_to or not delivery.correlation_id:
            return False
        return await self._store.was_answered(job_id, address(delivery), redelivered=again)

    async def give(
        self, taken: Taken, job_id: str, outcome: Outcome, nacks_until: datetime
    ) -> None:
        """Park, reply and settle; until `nacks_until` a full reply queue is tried again."""
        settlement = SETTLEMENT[type(outcome)]
        patience = Patience(taken.alive, nacks_until)
        drawn, end = _of_picture(outcome), "none"
        if settlement.park:
            end = await self._park(taken, job_id, outcome, patience)
        if end != "forgotten":
            outcome, end = await self._reply(taken, job_id, outcome, patience)
        if end != "forgotten":
            self._count(outcome)
        code = _code(outcome)
        tracing.tell_end(job_id, _name(outcome), code)
        log.info(
            "forgotten" if end == "forgotten" else "settled",
            job_id=job_id or None,
            correlation_id=taken.delivery.correlation_id,
            outcome=_name(outcome),
            code=code,
            reply=end,
            redelivered=taken.delivery.redelivered,
            held_s=round(taken.held_s, 4),
            **{**noted(), **drawn},
        )
        if end != "forgotten":
            await self._settle(taken, requeue=settlement.settle == "requeue")
        if end == "confirmed":
            self._metrics.request_duration_seconds.observe(taken.age_s)

    def _count(self, outcome: Outcome) -> None:
        """Count an end, told or not: who asked for no reply has failures as well."""
        self._metrics.requests.labels(_name(outcome)).inc()
        code = _code(outcome)
        if code is not None:
            self._metrics.errors.labels(code).inc()

    async def _settle(self, taken: Taken, *, requeue: bool) -> None:
        """Ack or give back, and count which it was."""
        settled_by = await _settled(taken, requeue=requeue)
        self._metrics.settlements.labels(settled_by).inc()
        self._metrics.ack_age_seconds.observe(taken.held_s)

    async def _park(
        self, taken: Taken, job_id: str, outcome: Outcome, patience: Patience
    ) -> str:
        reason = outcome.reason if isinstance(outcome, Unanswerable) else "poison"
        published = await self._replies.park(taken.delivery, reason, patience)
        if published is None:
            return "forgotten"
        self._metrics.parked.labels(reason).inc()
        log.warning("parked", job_id=job_id or None, reason=reason, end=published.value)
        note(parked=reason)
        return published.value

    async def _reply(
        self, taken: Taken, job_id: str, outcome: Outcome, patience: Patience
    ) -> tuple[Outcome, str]:
        """Reply, if anybody is to be told. Returns what the caller was told, and how it went."""
        kind, delivery = SETTLEMENT[type(outcome)].reply, taken.delivery
        if kind == "none" or not delivery.reply_to:
            return outcome, "none"
        message = self._message(job_id, outcome, delivery)
        if isinstance(message, Fault):
            return await self._reply(taken, job_id, Refused(message), patience)
        published = await self._replies.send(delivery, message, patience)
        await self._remember(delivery, job_id, published)
        end = "forgotten" if published is None else published.value
        self._metrics.replies.labels(kind, end).inc()
        return outcome, end

    def _message(self, job_id: str, outcome: Outcome, delivery: Delivery) -> Message | Fault:
        """Return what tells of an outcome; a Fault where the picture is too large to be told."""
        match outcome:
            case Succeeded():
                return self._replies.result(delivery, outcome)
            case (
                Refused(fault=fault)
                | Expired(fault=fault)
                | Cancelled(fault=fault)
                | Failed(fault=fault)
                | Poison(fault=fault)
            ):
                return error_message(job_id, fault)
            case Abandoned() | Unanswerable() | GivenBack() | AnsweredBefore():
                raise ValueError(f"{_name(outcome)} is told to nobody")
            case _:
                assert_never(outcome)

    async def _remember(
        self, delivery: Delivery, job_id: str, published: Published | None
    ) -> None:
        """Take down that an answer was confirmed: if only our ack is lost, it is not sent twice."""
        if published is Published.CONFIRMED and delivery.correlation_id:
            await self._store.answered(job_id, address(delivery))


def address(delivery: Delivery) -> str:
    """Return whom a delivery's answer goes to: the SHA-256 of reply_to and correlation id."""
    pair = json.dumps([delivery.reply_to, delivery.correlation_id])
    return hashlib.sha256(pair.encode()).hexdigest()


async def _settled(taken: Taken, *, requeue: bool) -> str:
    """Ack, or give back; returns which, or `forgotten`: the redelivery is answered instead."""
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            message = taken.message
            settlement = message.nack(requeue=True) if requeue else message.ack()
            await while_alive(taken.session, settlement)
    except TimeoutError:
        # Unsettled on a live session it would hold its place for ever.
        taken.session.lose("a settlement did not go out")
    except LINK_ERRORS as error:
        log.info("settlement_forgotten", problem=str(error))
    else:
        return "requeue" if requeue else "ack"
    return "forgotten"


def _name(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def _code(outcome: Outcome) -> str | None:
    fault = getattr(outcome, "fault", None)
    return fault.code.value if isinstance(fault, Fault) else None


def _of_picture(outcome: Outcome) -> dict[str, Any]:
    """Return what the log tells of a picture; times in seconds, sides in pixels."""
    if not isinstance(outcome, Succeeded):
        return {}
    told = outcome.facts
    return {
        "attempt": told.attempt,
        "replayed": told.replayed,
        "size": f"{told.width}x{told.height}",
        "format": told.format,
        "bytes": len(outcome.image),
        "seed": told.seed,
        "forwards": told.forwards,
        "model": told.model,
        "worker": told.worker,
        "queued_s": told.timings.queued,
        "generation_s": told.generation_time,
        "stages": told.timings.model_dump(exclude={"queued"}),
        # The log takes it out again, unless prompts are to be told.
        "prompt": told.prompt,
    }
