"""The connection: two supervised AMQP connections that live and die together, as generations."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionInternalError,
)
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from typing_extensions import override
from yarl import URL

from consumer.logs import logger

log = logger(__name__)

T = TypeVar("T")

HEARTBEAT_S = 10
"""The broker gives up a peer that it does not hear after two to three of them."""
SILENCE_S = 30.0
"""Without a frame for so long a link is dead, whatever TCP says; aio-pika would wait 33 s."""
DIAL_TIMEOUT_S = 10.0
ATTACH_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 1.0
"""Before aiormq's own limit of 2 s, at which it cancels whoever waits for an answer."""
CONFIRM_TIMEOUT_S = 60.0
"""Long: 12 MiB take 48 s at 256 kB/s, and a second try would send them once more."""
LAST_WORD_S = 0.1
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.5, 3.0
WATCH_EVERY_S = 1.0

LINK_ERRORS = (
    AMQPError,
    PAMQPException,
    OSError,
    ChannelInvalidStateError,
    RuntimeError,
    TimeoutError,
)
"""What aio-pika raises when a link is gone, in its various moments."""


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


@dataclass(slots=True)
class Session:
    """One generation: both connections, until anything ends either."""

    generation: int
    consume: AbstractConnection
    publish: AbstractConnection
    ended: "asyncio.Future[str]"
    """Resolves to the reason of the first thing that went wrong."""
    idle_channels: list[AbstractChannel] = field(default_factory=list)
    queues_gone: set[str] = field(default_factory=set)
    """Whose consumer the broker cancelled: what they had handed out does not come again."""

    def lose(self, reason: str) -> None:
        """End this generation; the first reason is kept."""
        if not self.ended.done():
            self.ended.set_result(reason)

    @property
    def alive(self) -> bool:
        """Deliveries of a session that is not are forgotten: the broker brings them again."""
        return not self.ended.done()

    @property
    def blocked(self) -> bool:
        """The broker takes no publish for now: it is short of memory or disk.

        aiormq hears it from the broker and keeps it to itself.
        """
        transport = self.publish.transport
        if transport is None:
            return False
        unblocked: asyncio.Event | None = getattr(
            transport.connection, "_Connection__connection_unblocked", None
        )
        return unblocked is not None and not unblocked.is_set()

    def watch_channel(self, channel: AbstractChannel, name: str) -> None:
        """End the session when a channel that it cannot do without closes."""
        channel.close_callbacks.add(lambda *_: self.lose(f"channel {name} closed"))

    async def watch_consumer(self, channel: AbstractChannel, queue: str) -> None:
        """End the session when the broker cancels this channel's consumer: its queue is gone."""

        def cancelled(_: object) -> None:
            self.queues_gone.add(queue)
            self.lose(f"the broker cancelled the consumer of {queue}")

        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(cancelled)


Attach = Callable[[Session], Coroutine[Any, Any, None]]
"""Called for every new generation, to open channels and start consumers on it."""


class Broker:
    """The supervisor of the two connections, and the only publisher."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._attachments: list[Attach] = []
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._on_change: Callable[[], None] = lambda: None
        self.generation = 0
        self.server_version: str | None = None
        self.last_problem: str | None = None

    def attach(self, attachment: Attach) -> None:
        """Have `attachment` called for every generation, in the order given."""
        self._attachments.append(attachment)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called for every session that stands, and for every one lost."""
        self._on_change = callback

    @property
    def connected(self) -> bool:
        """Both connections stand and every attachment is in place."""
        return self._connected.is_set()

    @property
    def session(self) -> Session | None:
        """The generation of the moment."""
        return self._session if self.connected else None

    async def run(self) -> None:
        """Keep a session up, for ever: dial, attach, wait for its end, back off, again."""
        delay = BACKOFF_FIRST_S
        while True:
            try:
                await self._live()
                delay = BACKOFF_FIRST_S
            except LINK_ERRORS as error:
                self.last_problem = f"{type(error).__name__}: {error}"
                log.warning("broker_unreachable", problem=self.last_problem)
            # Full jitter, so that a fleet does not come back in step.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret
            delay = min(delay * 2, BACKOFF_MOST_S)

    async def publish(
        self, exchange: str, routing_key: str, message: aio_pika.Message, *, mandatory: bool
    ) -> Published:
        """Publish and wait for the broker's word. Each message needs its own message_id.

        The word is waited for as long as the link lives: what is sent a second time, over a slow
        link or to a broker that is short of memory, arrives twice.

        Raises:
            LinkLostError: if the word did not come.
        """
        session = self.session
        if session is None:
            raise LinkLostError("not connected")
        work = _publish_on(session, exchange, routing_key, message, mandatory)
        try:
            return await _word(session, work)
        except LINK_ERRORS as error:
            broke = isinstance(error, ConnectionInternalError)
            lost = BrokerBrokeError if broke else LinkLostError
            raise lost(f"{type(error).__name__}: {error}") from error

    @property
    def blocked(self) -> bool:
        """The broker takes no publish for now."""
        return self._session is not None and self._session.alive and self._session.blocked

    async def wait_connected(self) -> None:
        """Return once a session stands."""
        await self._connected.wait()

    # ------------------------------------------------------------ one generation

    async def _live(self) -> None:
        self.generation += 1
        async with (
            _dialled(self._url, f"{self._name} consume") as consume,
            _dialled(self._url, f"{self._name} publish") as publish,
        ):
            loop = asyncio.get_running_loop()
            session = Session(self.generation, consume, publish, loop.create_future())
            for connection, what in ((consume, "consume"), (publish, "publish")):
                connection.close_callbacks.add(
                    lambda *_, what=what: session.lose(f"connection {what} closed")
                )
            self._session = session
            try:
                await self._attach_all(session)
                self._connected.set()
                self.last_problem = None
                self._on_change()
                log.info("broker_connected", generation=session.generation)
                reason = await _end_of(session)
                self.last_problem = reason
                log.warning("broker_lost", generation=session.generation, reason=reason)
            finally:
                session.lose("torn down")
                self._connected.clear()
                self._on_change()

    async def _attach_all(self, session: Session) -> None:
        transport = session.consume.transport
        properties: dict[str, Any] = (
            getattr(transport.connection, "server_properties", {}) if transport else {}
        )
        self.server_version = str(properties.get("version", "")) or None
        async with asyncio.timeout(ATTACH_TIMEOUT_S):
            for attachment in self._attachments:
                await while_alive(session, attachment(session))


class _Transport(TransportFactory):
    """Opens a link as aiormq does, and keeps hold of it so that it can be cut."""

    def __init__(self, url: URL) -> None:
        self._opens = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    @override
    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._opens.create(url, **kwargs)
        return reader, self._writer

    def cut(self) -> None:
        """Drop the link with whatever was not sent yet."""
        if self._writer is not None:
            self._writer.transport.abort()


@contextlib.asynccontextmanager
async def _dialled(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    address = make_url(url, heartbeat=HEARTBEAT_S)
    transport = _Transport(address)
    connection = aio_pika.Connection(address, client_properties={"connection_name": name})
    connection.kwargs["transport_factory"] = transport
    await connection.connect(timeout=DIAL_TIMEOUT_S)
    try:
        yield connection
    finally:
        await _close(connection, transport)


async def _close(connection: AbstractConnection, transport: _Transport) -> None:
    """Close politely, or cut the link: with bytes unsent, aiormq's close waits for them for ever."""
    closer = asyncio.get_running_loop().create_task(_close_politely(connection))
    try:
        await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
    finally:
        if not closer.done():
            transport.cut()
            await asyncio.wait({closer}, timeout=CLOSE_TIMEOUT_S)
        if not closer.done():
            log.warning("close_given_up")
            closer.cancel()


async def _close_politely(connection: AbstractConnection) -> None:
    with contextlib.suppress(*LINK_ERRORS):
        await connection.close()


async def _end_of(session: Session) -> str:
    """Wait for the session's end, watching both links for silence."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                return await asyncio.shield(session.ended)
        for connection, what in ((session.consume, "consume"), (session.publish, "publish")):
            if silence_s(connection) > SILENCE_S:
                session.lose(f"connection {what} silent for {SILENCE_S:g} s")


def silence_s(connection: AbstractConnection) -> float:
    """Return the seconds since the last frame.

    aiormq keeps the time to itself; a probe of our own would be answered late in a memory alarm,
    when the broker stops reading what a publisher sends and only its heartbeats come.
    """
    transport = connection.transport
    if transport is None:
        return 0.0
    last: float = getattr(transport.connection, "_Connection__last_frame_time")  # noqa: B009
    return asyncio.get_running_loop().time() - last


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


async def while_alive(session: Session, work: Coroutine[Any, Any, T]) -> T:
    """Await a call of the AMQP library, to the end of the session at the most.

    aiormq cancels whoever waits for an answer when it closes a link that gives none any more, and
    a task that was cancelled so is missed by nobody; who waits for bytes to leave gets a bare
    Exception from it.

    Raises:
        ConnectionError: the session ended first, or the link broke.
    """
    call = asyncio.get_running_loop().create_task(work)
    waited_for: set[asyncio.Future[Any]] = {call, session.ended}
    try:
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        # What ended the session may be told to the call as well, and says more.
        await asyncio.wait({call}, timeout=LAST_WORD_S)
        if not call.done() or call.cancelled():
            raise ConnectionError("the session ended")
        return call.result()
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionError("the link broke") from error
        raise
    finally:
        call.cancel()
        await asyncio.wait({call}, timeout=CLOSE_TIMEOUT_S)
        if call.done() and not call.cancelled():
            call.exception()  # looked at, or the loop would complain of it


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


async def _publish_on(
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
