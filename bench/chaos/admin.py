"""The admin: what a node is asked and told with the administrator's rights."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aio_pika.exceptions import AMQPError

from bench.chaos.dial import dialled
from control import loopback

VHOST = "imagegen"
REQUESTS, EXPIRED, PARKING = "imagegen.requests", "imagegen.expired", "imagegen.parking"
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Count:
    """What AMQP tells of a queue."""

    ready: int
    """Messages that wait; those handed out are not among them."""
    consumers: int


class Admin:
    """AMQP for figures, which it has at once; the management API for what AMQP cannot do."""

    def __init__(self, url: str, amqp_url: str) -> None:
        self._url = url
        self._amqp_url = amqp_url

    async def counts(self) -> dict[str, Count]:
        """Return the figures of our queues; none while the broker or a queue is away."""
        counts = {}
        try:
            async with dialled(self._amqp_url, "chaos admin") as connection:
                channel = await connection.channel()
                for name in (REQUESTS, EXPIRED, PARKING):
                    queue = await channel.declare_queue(name, passive=True)
                    told = queue.declaration_result
                    counts[name] = Count(told.message_count or 0, told.consumer_count or 0)
        except (AMQPError, OSError):
            return {}
        return counts

    async def parked(self) -> int:
        """Return how many messages are parked."""
        counts = await self.counts()
        return counts[PARKING].ready if counts else 0

    async def purge(self) -> None:
        """Empty our queues."""
        async with dialled(self._amqp_url, "chaos admin") as connection:
            channel = await connection.channel()
            for name in (REQUESTS, EXPIRED, PARKING):
                queue = await channel.get_queue(name, ensure=False)
                await queue.purge()

    async def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Return the API's answer as JSON; None for one without a body, or that nobody gives."""
        raw = None if body is None else json.dumps(body).encode()
        answer = await asyncio.to_thread(
            loopback.ask, method, f"{self._url}/api/{path}", raw, PATIENCE_S
        )
        if answer is None or answer.status >= 400 or not answer.body:
            return None
        return json.loads(answer.body)

    async def queue(self, name: str) -> dict[str, Any]:
        """Return what the API tells of a queue; nothing if it is not there."""
        return await self.ask(f"queues/{VHOST}/{name}") or {}
