"""The control listener: hears what is broadcast to every consumer, and obeys a cancel."""

from collections.abc import Awaitable, Callable

from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError

from consumer import topology
from consumer.connection import Session
from consumer.logs import logger
from schemas.control import CONTROL_ADAPTER, Cancel

log = logger(__name__)

OnCancel = Callable[[str], Awaitable[None]]


class Control:
    """A queue of our own on the exchange `imagegen.control`."""

    def __init__(self, on_cancel: OnCancel) -> None:
        self._on_cancel = on_cancel

    async def attach(self, session: Session) -> None:
        """Bind an exclusive queue that goes with the connection."""
        channel = await session.consume.channel(publisher_confirms=False)
        session.watch_channel(channel, "control")
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
            log.info("cancel_heard", job_id=command.job_id)
            await self._on_cancel(command.job_id)
