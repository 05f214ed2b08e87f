"""The admin: what the management API of a node is asked and told."""

import asyncio
import json
from typing import Any

import aio_pika

from control import loopback

VHOST = "imagegen"
REQUESTS, EXPIRED, PARKING = "imagegen.requests", "imagegen.expired", "imagegen.parking"
PATIENCE_S = 20.0


class Admin:
    """The management API, and AMQP where that knows better, with the administrator's rights."""

    def __init__(self, url: str, amqp_url: str) -> None:
        self._url = url
        self._amqp_url = amqp_url

    async def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Return the answer's JSON; None for one without a body, or that nobody gives."""
        raw = None if body is None else json.dumps(body).encode()
        answer = await asyncio.to_thread(
            loopback.ask, method, f"{self._url}/api/{path}", raw, PATIENCE_S
        )
        if answer is None or answer.status >= 400 or not answer.body:
            return None
        return json.loads(answer.body)

    async def queue(self, name: str) -> dict[str, Any]:
        """Return what is told of a queue; nothing if it is not there."""
        return await self.ask(f"queues/{VHOST}/{name}") or {}

    async def messages(self, name: str) -> int:
        """Return how many messages a queue has, those handed out and not settled included."""
        return int((await self.queue(name)).get("messages", 0))

    async def parked(self) -> int:
        """Return how many messages are parked: asked over AMQP, since the API tells old figures."""
        async with await aio_pika.connect(self._amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(PARKING, passive=True)
            return queue.declaration_result.message_count or 0

    async def purge(self) -> None:
        """Empty our queues."""
        for name in (REQUESTS, EXPIRED, PARKING):
            await self.ask(f"queues/{VHOST}/{name}/contents", "DELETE")
