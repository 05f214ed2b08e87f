"""A plain requester for tests: publishes, and collects what comes to its reply queue."""

import asyncio
import json
from uuid import uuid4

import aio_pika

PATIENCE_S = 60.0


class Requester:
    """An exclusive reply queue and publishes with confirms, with nothing of ours."""

    def __init__(self, channel):
        self.channel = channel
        self.replies = asyncio.Queue()

    async def start(self):
        self.queue = await self.channel.declare_queue("", exclusive=True)
        await self.queue.consume(self._take, no_ack=True)
        self.exchange = await self.channel.get_exchange("imagegen", ensure=False)
        return self

    async def _take(self, message):
        await self.replies.put(message)

    async def publish(self, body, **properties):
        """Publish a body (a dict becomes JSON); returns the broker's word."""
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        defaults = {
            "reply_to": self.queue.name,
            "correlation_id": str(uuid4()),
            "message_id": str(uuid4()),
            "content_type": "application/json",
            "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
        }
        message = aio_pika.Message(raw, **{**defaults, **properties})
        return await self.exchange.publish(message, "imagegen.requests")

    async def reply(self):
        """Return the next reply message."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.replies.get()

    async def ask(self, body, **properties):
        """Publish and return the reply's JSON."""
        await self.publish(body, **properties)
        return json.loads((await self.reply()).body)
