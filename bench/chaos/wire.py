"""The wire: plain AMQP with nothing of ours, that books what it asks and every reply it sees."""

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.commands import Basic

from bench.chaos.dial import dialled
from bench.chaos.job import Job
from bench.chaos.ledger import LATE_S, PICTURE, Answer, Asked, Face, Ledger, Word

LINK_ERRORS = (
    aio_pika.exceptions.AMQPError,
    OSError,
    ChannelInvalidStateError,
    RuntimeError,
    TimeoutError,
)
CONFIRM_S = 8.0
REDIAL_S = 0.2


class Wire:
    """Plain AMQP with nothing of ours: publishes with confirm, and books every reply."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._jobs: dict[str, Job] = {}
        self._channel: AbstractChannel | None = None
        self._up = asyncio.Event()
        self.reply_to = f"imagegen.client.chaos-{uuid4()}"

    async def run(self) -> None:
        """Stay connected, for ever."""
        while True:
            with contextlib.suppress(*LINK_ERRORS):
                await self._live()
            self._up.clear()
            await asyncio.sleep(REDIAL_S)

    async def channel(self) -> AbstractChannel:
        """Return a channel with confirms; waits for the link."""
        while True:
            await self._up.wait()
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            await asyncio.sleep(REDIAL_S)

    async def ask(
        self,
        job: Job,
        patience_s: float,
        wants: tuple[str, ...] = (PICTURE,),
        **properties: Any,
    ) -> Word:
        """Publish a request once; a `body` among the properties replaces the job's."""
        body = properties.pop("body", None)
        if body is None:
            body = json.dumps(job.body).encode()
        given = {
            "message_id": job.id,
            "correlation_id": job.id,
            "reply_to": self.reply_to,
            "content_type": "application/json",
            "delivery_mode": 2,
            "priority": 4,
            "expiration": patience_s,
            **properties,
        }
        request_id = str(given["correlation_id"])
        deadline = time.monotonic() + patience_s + LATE_S
        self._jobs[request_id] = job
        self._ledger.ask(Asked(request_id, job.id, Face.WIRE, deadline, wants))
        word = await self._publish(aio_pika.Message(body, **given))
        self._ledger.tell(request_id, word)
        return word

    async def leave(self) -> None:
        """Remove the reply queue, best effort."""
        with contextlib.suppress(*LINK_ERRORS):
            async with asyncio.timeout(CONFIRM_S):
                channel = await self.channel()
                await channel.queue_delete(self.reply_to)

    async def _publish(self, message: aio_pika.Message) -> Word:
        try:
            async with asyncio.timeout(CONFIRM_S):
                channel = await self.channel()
        except LINK_ERRORS:
            return Word.REFUSED  # it was never sent
        try:
            async with asyncio.timeout(CONFIRM_S):
                exchange = await channel.get_exchange("imagegen", ensure=False)
                answer = await exchange.publish(message, "imagegen.requests", mandatory=True)
        except aio_pika.exceptions.DeliveryError:
            return Word.REFUSED
        except LINK_ERRORS:
            return Word.ATTEMPTED
        return Word.CONFIRMED if isinstance(answer, Basic.Ack) else Word.REFUSED

    async def _live(self) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with dialled(self._url, "chaos wire") as connection:
            self._channel = await connection.channel()
            replies = await connection.channel(publisher_confirms=False)
            for end in (connection, self._channel, replies):
                end.close_callbacks.add(lambda *_: lost.done() or lost.set_result(None))
            queue = await replies.declare_queue(
                self.reply_to,
                durable=True,
                arguments={"x-queue-type": "classic", "x-expires": 300_000},
            )
            await queue.consume(self.take)
            self._up.set()
            await lost

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Book a reply; also those of queues beside the own one."""
        request_id, reply_id = str(message.correlation_id), str(message.message_id)
        self._ledger.reply_seen(request_id, reply_id)
        self._ledger.answer(read(message, self._jobs.get(request_id), request_id, reply_id))
        await message.ack()


def read(
    message: AbstractIncomingMessage, job: Job | None, request_id: str, reply_id: str
) -> Answer:
    """Return a reply as an answer; what cannot be read is told as its fault."""
    try:
        fields = json.loads(message.body)
        if not fields["success"]:
            code = fields["error"]["code"]
            return Answer(request_id, reply_id, fields["job_id"], code, code)
        data = base64.b64decode(fields["image_base64"])
        hash_ = hashlib.sha256(data).hexdigest()
        fault = job.fault_of(data, fields["seed"]) if job else ""
        if hash_ != fields["sha256"]:
            fault = "bytes that do not have the hash told"
        return Answer(
            request_id, reply_id, fields["job_id"], PICTURE, hash_, fault, fields["replayed"]
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        return Answer(request_id, reply_id, "", "unreadable", "", f"unreadable: {error!r}")
