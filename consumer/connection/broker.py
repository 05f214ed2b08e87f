"""The broker as we see it: keeps one session up, generation after generation, and publishes on it."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import aio_pika

from consumer.connection.link import LINK_ERRORS, dialled, silence_s
from consumer.connection.publishing import LinkLostError, Published, publish_on
from consumer.connection.session import Loss, Session, while_alive
from consumer.logs import logger
from imagegen_client.nodes import Nodes, nodes_in

log = logger(__name__)

SILENCE_S = 30.0
"""Without a frame for so long a link is dead, whatever TCP says; aio-pika would wait 33 s."""
ATTACH_TIMEOUT_S = 30.0
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.5, 3.0
WATCH_EVERY_S = 1.0

Attach = Callable[[Session], Coroutine[Any, Any, None]]
"""Called for every new generation, to open channels and start consumers on it."""


class Broker:
    """The supervisor of the two connections, and the only publisher."""

    def __init__(self, urls: str, name: str) -> None:
        """Take the URL of the broker; those of several nodes have commas between them."""
        self._nodes = Nodes(nodes_in(urls))
        self._name = name
        self._attachments: list[Attach] = []
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._on_change: Callable[[], None] = lambda: None
        self.generation = 0
        self.server_version: str | None = None
        self.last_problem: str | None = None
        self.lost_by: Loss | None = None
        """How the last session was lost."""

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
        """Keep a session up, for ever: dial, attach, wait for its end, back off, again.

        Whatever ended it, the next one is sought at the next node: what a node has lost, another
        may have. The wait grows only when all of them were tried in vain.
        """
        delay = BACKOFF_FIRST_S
        while True:
            try:
                await self._live()
                delay = BACKOFF_FIRST_S
            except LINK_ERRORS as error:
                self.last_problem = f"{type(error).__name__}: {error}"
                log.warning("broker_unreachable", problem=self.last_problem)
            all_failed = self._nodes.pass_on()
            # Full jitter, so that a fleet does not come back in step.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret
            if all_failed:
                delay = min(delay * 2, BACKOFF_MOST_S)

    async def publish(
        self, exchange: str, routing_key: str, message: aio_pika.Message, *, mandatory: bool
    ) -> Published:
        """Publish on the session of the moment and wait for the broker's word.

        Raises:
            LinkLostError: if the word did not come.
        """
        session = self.session
        if session is None:
            raise LinkLostError("not connected")
        return await publish_on(session, exchange, routing_key, message, mandatory=mandatory)

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
        url = self._nodes.current
        async with (
            dialled(url, f"{self._name} consume") as consume,
            dialled(url, f"{self._name} publish") as publish,
        ):
            loop = asyncio.get_running_loop()
            session = Session(self.generation, consume, publish, loop.create_future())
            for connection, what in ((consume, "consume"), (publish, "publish")):
                connection.close_callbacks.add(
                    lambda *_, what=what: session.lose(
                        f"connection {what} closed", Loss.CONNECTION_CLOSED
                    )
                )
            self._session = session
            try:
                await self._attach_all(session)
                self._connected.set()
                self._nodes.stood()
                self.last_problem = None
                self._on_change()
                log.info("broker_connected", generation=session.generation)
                reason = await _end_of(session)
                self.last_problem = reason
            finally:
                session.lose("torn down", Loss.NOT_ATTACHED)
                self.lost_by = session.loss
                self._connected.clear()
                self._on_change()
            log.warning("broker_lost", generation=session.generation, reason=reason)

    async def _attach_all(self, session: Session) -> None:
        transport = session.consume.transport
        properties: dict[str, Any] = (
            getattr(transport.connection, "server_properties", {}) if transport else {}
        )
        self.server_version = str(properties.get("version", "")) or None
        async with asyncio.timeout(ATTACH_TIMEOUT_S):
            for attachment in self._attachments:
                await while_alive(session, attachment(session))


async def _end_of(session: Session) -> str:
    """Wait for the session's end, watching both links for silence."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                return await asyncio.shield(session.ended)
        for connection, what in ((session.consume, "consume"), (session.publish, "publish")):
            if silence_s(connection) > SILENCE_S:
                session.lose(f"connection {what} silent for {SILENCE_S:g} s", Loss.SILENT)
