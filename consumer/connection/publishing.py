"""A publish on a session: on a channel of its own, to the broker's word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from enum import StrEnum
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionInternalError,
)
from pamqp.commands import Basic

from consumer.connection.link import CLOSE_TIMEOUT_S, LINK_ERRORS
from consumer.connection.session import Session, while_alive
from consumer.logs import logger

log = logger(__name__)

CONFIRM_TIMEOUT_S = 60.0
"""Long: 12 MiB take 48 s at 256 kB/s, and a second try would send them once more."""


class LinkLostError(Exception):
    """The publish may or may not have arrived: the link went away, or stayed silent."""


class BrokerBrokeError(LinkLostError):
    """The broker's own code failed on a publish, and it closed the connection (541)."""


class Published(StrEnum):
    """What the broker said of a publish."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """Mandatory, and no queue took it."""
    NACKED = "nacked"
    """The queue is full."""
    REFUSED = "refused"
    """We may not, it is too large, or there is no such exchange (403, 404, 406)."""


async def publish_on(
    session: Session,
    exchange: str,
    routing_key: str,
    message: aio_pika.Message,
    *,
    mandatory: bool,
) -> Published:
    """Publish and wait for the broker's word. Each message needs its own message_id.

    The word is waited for as long as the link lives: what is sent a second time, over a slow
    link or to a broker that is short of memory, arrives twice.

    Raises:
        LinkLostError: if the word did not come.
    """
    work = _publish_alone(session, exchange, routing_key, message, mandatory)
    try:
        return await _word(session, work)
    except LINK_ERRORS as error:
        broke = isinstance(error, ConnectionInternalError)
        lost = BrokerBrokeError if broke else LinkLostError
        raise lost(f"{type(error).__name__}: {error}") from error


async def _word(session: Session, work: Coroutine[Any, Any, Published]) -> Published:
    """Await the broker's word on a publish: for CONFIRM_TIMEOUT_S, and as long as it is blocked."""
    word = asyncio.get_running_loop().create_task(while_alive(session, work))
    try:
        while not word.done():
            done, _ = await asyncio.wait({word}, timeout=CONFIRM_TIMEOUT_S)
            if not done and not session.blocked:
                raise LinkLostError(f"no confirm within {CONFIRM_TIMEOUT_S:g} s")
        return word.result()
    finally:
        word.cancel()


async def _publish_alone(
    session: Session,
    exchange: str,
    routing_key: str,
    message: aio_pika.Message,
    mandatory: bool,  # noqa: FBT001 - handed on
) -> Published:
    async with _channel(session) as channel:
        return await _publish(channel, exchange, routing_key, message, mandatory)


async def _publish(
    channel: AbstractChannel,
    exchange: str,
    routing_key: str,
    message: aio_pika.Message,
    mandatory: bool,  # noqa: FBT001 - handed on
) -> Published:
    target = (
        await channel.get_exchange(exchange, ensure=False)
        if exchange
        else channel.default_exchange
    )
    try:
        answer = await target.publish(message, routing_key, mandatory=mandatory)
    except DeliveryError:
        # A quorum queue whose leader failed nacks for ever on this channel (3.10): take another.
        await channel.close()
        return Published.NACKED
    except (ChannelAccessRefused, ChannelPreconditionFailed, ChannelNotFoundEntity) as error:
        log.warning("publish_refused", routing_key=routing_key, problem=str(error))
        return Published.REFUSED
    return Published.CONFIRMED if isinstance(answer, Basic.Ack) else Published.RETURNED


@contextlib.asynccontextmanager
async def _channel(session: Session) -> AsyncIterator[AbstractChannel]:
    """Lend a channel for one publish.

    A refused publish closes its channel, and with it every other publish under way there: with
    one channel each, a refusal is told to the one that earned it.
    """
    channel = (
        session.idle_channels.pop()
        if session.idle_channels
        else await session.publish.channel()
    )
    fine = False
    try:
        yield channel
        fine = not channel.is_closed
    finally:
        if fine:
            session.idle_channels.append(channel)
        else:
            with contextlib.suppress(*LINK_ERRORS):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await channel.close()
