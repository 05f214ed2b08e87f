"""The replies: renders an outcome, publishes it with confirm, and parks what nobody can be told."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import orjson
import pybase64
from aio_pika import DeliveryMode

from consumer import tracing
from consumer.admission import Accept, Delivery
from consumer.connection import Broker, BrokerBrokeError, LinkLostError, Published
from consumer.errors import Fault
from consumer.job import Succeeded
from consumer.logs import logger
from consumer.metrics import Metrics
from consumer.presence import DIRECT_REPLY_TO, is_forged
from consumer.topology import PARKING
from schemas.errors import ErrorCode
from schemas.reply import (
    ACCEPT_HEADER,
    ERROR_TYPE,
    FIELD_HEADER_PREFIX,
    RESULT_TYPE,
    ResultFacts,
)
from schemas.request import MEDIA_TYPES

log = logger(__name__)

APP_ID = "imagegen"
RETRY_FIRST_S, RETRY_MOST_S = 0.25, 5.0
SUSPECTS_MOST = 1000
BREAKS_MOST = 2
"""Direct replies on which the broker broke so often are given up: it would break for ever."""


REMEDY = f"create the queue {PARKING}, as rabbitmq/definitions.json has it"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer is tried."""

    alive: Callable[[], bool]
    """False once the delivery is forgotten: its redelivery will be answered instead."""
    nacks_until: datetime
    """A full reply queue is tried again until then."""

    def over(self) -> bool:
        """Whether a full reply queue has been tried long enough."""
        return datetime.now(tz=UTC) >= self.nacks_until


def render_result(facts: ResultFacts, image: bytes) -> bytes:
    """Return the JSON body of a success.

    The base64 of the image is spliced in: a JSON encoder would copy and scan it again.
    """
    head = orjson.dumps({"success": True, **facts.model_dump(mode="json")})
    return b"".join((head[:-1], b',"image_base64":"', pybase64.b64encode(image), b'"}'))


def render_error(job_id: str, fault: Fault) -> bytes:
    """Return the JSON body of a failure."""
    error = fault.info().model_dump(mode="json")
    return orjson.dumps({"success": False, "job_id": job_id, "error": error})


def result_headers(facts: ResultFacts) -> dict[str, Any]:
    """Return every field of a result but the image as headers, for a reply of raw bytes."""
    fields = {"success": True, **facts.model_dump(mode="json")}
    return {
        f"{FIELD_HEADER_PREFIX}{name.replace('_', '-')}": _header_value(value)
        for name, value in fields.items()
    }


def _header_value(value: Any) -> Any:
    """JSON for tables; floats as text, since AMQP clients disagree on how floats travel."""
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return str(value) if isinstance(value, float) else value


def result_message(
    facts: ResultFacts, image: bytes, accept: Accept, max_bytes: int
) -> aio_pika.Message | Fault:
    """Return the message of a success, or why it may not be sent."""
    raw = accept == "raw"
    body = image if raw else render_result(facts, image)
    if len(body) > max_bytes:
        return Fault(
            ErrorCode.RESULT_TOO_LARGE,
            f"The reply would have {len(body):,} bytes; at most {max_bytes:,} are sent. "
            "Ask for output_format jpeg or webp, or for a smaller size.",
        )
    return _message(
        body,
        RESULT_TYPE,
        MEDIA_TYPES[facts.format] if raw else "application/json",
        result_headers(facts) if raw else {},
    )


def error_message(job_id: str, fault: Fault) -> aio_pika.Message:
    """Return the message of a failure; always JSON."""
    return _message(render_error(job_id, fault), ERROR_TYPE, "application/json", {})


def _message(
    body: bytes, message_type: str, content_type: str, headers: dict[str, Any]
) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        type=message_type,
        content_type=content_type,
        headers=headers,
        # aiormq matches confirms to publishes by it: never two alike in flight.
        message_id=str(uuid4()),
        app_id=APP_ID,
        timestamp=datetime.now(tz=UTC),
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=4,
    )


class Replies:
    """Publishes answers; each try waits for the broker's word."""

    def __init__(self, broker: Broker, max_reply_bytes: int, metrics: Metrics) -> None:
        self._broker = broker
        self._max_reply_bytes = max_reply_bytes
        self._metrics = metrics
        self._breaks: Counter[str] = Counter()
        self._unparked: dict[str | None, str | None] = {}
        """What the broker said last to each copy that is not parked yet."""

    def result(self, delivery: Delivery, outcome: Succeeded) -> aio_pika.Message | Fault:
        """Return the message of a picture as its caller wants it, or why it may not be sent."""
        return result_message(
            outcome.facts, outcome.image, delivery.accept, self._max_reply_bytes
        )

    async def park(
        self, delivery: Delivery, reason: str, patience: Patience
    ) -> Published | None:
        """Put a copy of a request into the parking queue, with the reason.

        Tried until the broker confirms it: a copy that is not there is a request lost.
        """
        copy = aio_pika.Message(
            delivery.body,
            content_type=delivery.content_type,
            content_encoding=delivery.content_encoding,
            correlation_id=delivery.correlation_id,
            headers={
                f"{FIELD_HEADER_PREFIX}reason": reason,
                f"{FIELD_HEADER_PREFIX}reply-to": delivery.reply_to or "",
                f"{FIELD_HEADER_PREFIX}message-id": delivery.message_id or "",
                f"{FIELD_HEADER_PREFIX}type": delivery.type or "",
                f"{FIELD_HEADER_PREFIX}body-sha256": hashlib.sha256(delivery.body).hexdigest(),
                **_kept(delivery),
            },
            message_id=str(uuid4()),
            app_id=APP_ID,
            timestamp=datetime.now(tz=UTC),
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        self._unparked[copy.message_id] = None
        try:
            while True:
                told = await self._until_told(PARKING, copy, patience, mandatory=True)
                if told in {Published.CONFIRMED, None}:
                    return told
                self._unparked[copy.message_id] = told.value
                log.error("parking_impossible", end=told.value, remedy=REMEDY)
                await asyncio.sleep(RETRY_MOST_S)
        finally:
            del self._unparked[copy.message_id]

    async def send(
        self, delivery: Delivery, message: aio_pika.Message, patience: Patience
    ) -> Published | None:
        """Send an answer; None if the delivery was forgotten before the broker's word came."""
        message.correlation_id = delivery.correlation_id
        trace = delivery.headers.get("traceparent")
        if isinstance(trace, str):
            # The one header that is copied: others would be obeyed (CC), or are none of ours.
            message.headers["traceparent"] = trace
        reply_to = delivery.reply_to or ""
        direct = reply_to.startswith(DIRECT_REPLY_TO)
        if direct and self._breaks[reply_to] >= _breaks_most(reply_to):
            # A forged one: the broker cannot decode it, and closes the connection of all (3.10).
            log.warning("reply_impossible", reply_to=reply_to)
            return Published.REFUSED
        # On 3.10 and 4.0 a mandatory direct reply comes back although it was delivered.
        self._metrics.reply_bytes.observe(len(message.body))
        with self._metrics.stage("publish"), tracing.publishing(direct):
            return await self._until_told(reply_to, message, patience, mandatory=not direct)

    @property
    def parking_problem(self) -> str | None:
        """Why a request is not parked, as a sentence; None if none waits for that."""
        told = {end for end in self._unparked.values() if end is not None}
        if not told:
            return None
        ends = " and ".join(sorted(told))
        return f"The broker does not take what is to be parked ({ends}): {REMEDY}"

    def _count_break(self, reply_to: str) -> None:
        """Remember a suspect. All that were in flight on the connection are, for a while."""
        if len(self._breaks) >= SUSPECTS_MOST:
            self._breaks.clear()
        self._breaks[reply_to] += 1

    async def _until_told(
        self,
        queue: str,
        message: aio_pika.Message,
        patience: Patience,
        *,
        mandatory: bool,
    ) -> Published | None:
        """Publish until the broker takes it, returns it or refuses it, or nobody wants it.

        A full reply queue and a broker that does not answer are tried again, ever more slowly.
        """
        delay = RETRY_FIRST_S
        while patience.alive():
            try:
                published = await self._broker.publish("", queue, message, mandatory=mandatory)
                if published is not Published.NACKED or patience.over():
                    return published
            except LinkLostError as error:
                if isinstance(error, BrokerBrokeError) and not mandatory:
                    self._count_break(queue)
                log.warning("reply_unconfirmed", problem=str(error))
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - no secret
            delay = min(delay * 2, RETRY_MOST_S)
        return None


def _kept(delivery: Delivery) -> dict[str, str]:
    """Return what else a replay needs: who asked, how patiently, and for which form of answer."""
    patience = delivery.expiration_s
    kept = {
        f"{FIELD_HEADER_PREFIX}user-id": delivery.user_id,
        f"{FIELD_HEADER_PREFIX}expiration-s": None if patience is None else str(patience),
        **{name: delivery.headers.get(name) for name in (ACCEPT_HEADER, "traceparent")},
    }
    return {name: value for name, value in kept.items() if isinstance(value, str)}


def _breaks_most(reply_to: str) -> int:
    """Return how often the broker may break on a direct reply before it is given up.

    A forged one is given up soon; what looks real may only have been in flight beside one.
    """
    return BREAKS_MOST if is_forged(reply_to) else 3 * BREAKS_MOST
