"""The parking queue: what lies in it, and how it is published again or thrown away."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.exceptions import ChannelAccessRefused
from pamqp.commands import Basic

from consumer.topology import EXCHANGE, PARKING, REQUESTS
from imagegen_client.nodes import nodes_in
from schemas.reply import ACCEPT_HEADER, FIELD_HEADER_PREFIX

TIMEOUT_S = 10.0
"""For the connection, and for each word of the broker."""
PROMPT_CHARACTERS = 60
POISON = "poison"

_COPIED = (ACCEPT_HEADER, "traceparent")
"""Headers of a request that mean something to us; others would be obeyed (CC), or are not ours."""


class ParkingUnreachableError(Exception):
    """The queue cannot be read or a request not published; the sentence says why."""


class Replayed(StrEnum):
    """What the broker said to a request that was published again."""

    TAKEN = "taken"
    FULL = "full"
    """The queue of requests is full: the parked copy stays."""
    RETURNED = "returned"
    """There is no queue of requests: the parked copy stays."""
    UNFIT = "unfit"
    """It is no request that can be published: the parked copy stays."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The facts of a parked copy; what is not known is empty."""

    id: str
    """Of the copy: unique, where a job may have been parked more than once."""
    reason: str
    parked_at: datetime | None
    job_id: str
    correlation_id: str
    reply_to: str
    user: str
    bytes: int
    prompt: str
    """The first characters of it."""


@dataclass(frozen=True, slots=True)
class Again:
    """How a parked request is published again."""

    deadline_s: float | None = None
    """The new patience; None: as long as the caller's was."""
    new_id: bool | None = None
    """Under the copy's id instead of the job's; None: where it was poison.

    The store answers a poisonous id at once, for ever. The copy's id serves a second try too.
    """


class Parking:
    """The queue on one channel; what is looked at and not settled goes back to its place."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def walk(self) -> AsyncIterator[tuple[Parked, AbstractIncomingMessage]]:
        """Take everything that lies there now, the oldest first.

        Not what is parked meanwhile: a replayed request may come straight back.
        """
        queue = await self._channel.get_queue(PARKING, ensure=False)
        message = await queue.get(fail=False, timeout=TIMEOUT_S)
        behind = 0 if message is None else message.message_count or 0
        while message is not None:
            yield _facts(message), message
            if not behind:
                return
            behind -= 1
            message = await queue.get(fail=False, timeout=TIMEOUT_S)

    async def replay(
        self, parked: Parked, message: AbstractIncomingMessage, again: Again
    ) -> Replayed:
        """Publish a request again; the parked copy goes once the broker has confirmed it."""
        exchange = await self._channel.get_exchange(EXCHANGE, ensure=False)
        try:
            request = _request(parked, message, again)
            answer = await exchange.publish(
                request, REQUESTS, mandatory=True, timeout=TIMEOUT_S
            )
        except DeliveryError:
            return Replayed.FULL
        except (ValueError, TypeError, OverflowError):
            # Whoever may write to the default exchange may put anything here.
            return Replayed.UNFIT
        if not isinstance(answer, Basic.Ack):
            return Replayed.RETURNED
        await message.ack()
        return Replayed.TAKEN


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Parking]:
    """Lend the parking queue of a broker.

    Raises:
        ParkingUnreachableError: the broker, the queue or the right to it is missing.
    """
    try:
        connection = await _connected(url)
        async with connection, connection.channel() as channel:
            yield Parking(channel)
    except ChannelAccessRefused as error:
        raise ParkingUnreachableError(
            f"This user may not: {error}. It takes the right to read {PARKING} and, to replay, to "
            f"write {EXCHANGE}; imagegen-consumer has both (rabbitmq/users.json)."
        ) from error
    except (AMQPError, OSError, TimeoutError) as error:
        told = str(error) or type(error).__name__
        raise ParkingUnreachableError(f"The parking queue is out of reach: {told}") from error


async def _connected(urls: str) -> AbstractConnection:
    """Connect to the first node that lets us in; raises what the last one did."""
    *others, last = nodes_in(urls)
    for url in others:
        with contextlib.suppress(AMQPError, OSError, TimeoutError):
            return await aio_pika.connect(url, timeout=TIMEOUT_S)
    return await aio_pika.connect(last, timeout=TIMEOUT_S)


def _request(
    parked: Parked, message: AbstractIncomingMessage, again: Again
) -> aio_pika.Message:
    """Return the request as it came, as far as its copy tells; from now on, and by us.

    Not its user: the broker lets nobody publish in the name of another.
    """
    new_id = parked.reason == POISON if again.new_id is None else again.new_id
    patience = _text(message.headers, "expiration-s")
    return aio_pika.Message(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        type=_text(message.headers, "type") or None,
        message_id=(parked.id if new_id else parked.job_id) or None,
        correlation_id=parked.correlation_id or None,
        reply_to=parked.reply_to or None,
        expiration=again.deadline_s or (float(patience) if patience else None),
        timestamp=datetime.now(tz=UTC),
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=4,
        headers={name: message.headers[name] for name in _COPIED if name in message.headers},
    )


def _facts(message: AbstractIncomingMessage) -> Parked:
    return Parked(
        id=message.message_id or "",
        reason=_text(message.headers, "reason"),
        parked_at=message.timestamp,
        job_id=_text(message.headers, "message-id"),
        correlation_id=message.correlation_id or "",
        reply_to=_text(message.headers, "reply-to"),
        user=_text(message.headers, "user-id"),
        bytes=len(message.body),
        prompt=_prompt(message.body)[:PROMPT_CHARACTERS],
    )


def _text(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(f"{FIELD_HEADER_PREFIX}{name}")
    return value if isinstance(value, str) else ""


def _prompt(body: bytes) -> str:
    """Return the prompt, where the body is one that has any."""
    try:
        prompt = json.loads(body)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return prompt if isinstance(prompt, str) else ""
