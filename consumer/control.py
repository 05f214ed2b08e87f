"""The control listener: hears what is broadcast to every consumer: a cancel, or the end of a job."""

from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError

from consumer import topology
from consumer.connection import Session
from consumer.events import Events
from consumer.flights import Flights
from consumer.keeper import Keeper
from consumer.logs import logger
from consumer.queries import Queries
from consumer.topology import MAY_CANCEL_ANY
from schemas.control import CONTROL_ADAPTER, Cancel, Done

log = logger(__name__)


class Control:
    """A queue of our own on the exchange `imagegen.control`."""

    def __init__(
        self, flights: Flights, store: Keeper, events: Events, queries: Queries
    ) -> None:
        self._flights = flights
        self._store = store
        self._events = events
        self._queries = queries

    async def attach(self, session: Session) -> None:
        """Bind an exclusive queue that goes with the connection."""
        channel = await session.consume.channel(publisher_confirms=False)
        session.watch_channel(channel, "control")
        await session.watch_consumer(channel, "control")
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(topology.CONTROL)
        await queue.consume(self._on_message, no_ack=True)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        try:
            command = CONTROL_ADAPTER.validate_json(message.body)
        except ValidationError:
            log.warning("control_message_not_understood", bytes=len(message.body))
            return
        if isinstance(command, Cancel):
            await self._cancel(command.job_id, message.user_id)
        elif isinstance(command, Done):
            self._flights.done_elsewhere(command.job_id)
        else:
            self._queries.put(command, message)

    async def _cancel(self, job_id: str, user_id: str | None) -> None:
        """Stop a job that is here, or remember that it is not wanted.

        A job whose publisher gave its `user_id`, which the broker verifies, is cancelled by the
        same user only; the service's own users may cancel any.
        """
        any_job = user_id in MAY_CANCEL_ANY
        here = self._flights.cancel(job_id, user_id, any_job=any_job)
        log.info("cancel_heard", job_id=job_id, here=here)
        if not here:
            ended = await self._store.remember_cancel(job_id, user_id, any_job=any_job)
            if ended:
                self._events.tell(job_id, "cancelled")
