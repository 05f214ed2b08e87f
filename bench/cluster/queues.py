"""The queues: what a request costs in a classic and in a quorum queue of the same cluster.

Each message is of a request's size, persistent and confirmed. One after another tells the time that a
caller waits; many at once what the queue's one process gets through. Who publishes is connected to
the node that leads the queue, or to another one.
"""

import asyncio
import statistics
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection

from bench.chaos.dial import dialled
from bench.cluster.stage import Stage

BODY = b'{"prompt": "' + b"a" * 588 + b'"}'
"""602 bytes: a prompt of a hundred words."""
ROUNDS = 5
WARM_UP, ALONE = 20, 100
AT_ONCE, TIMES = 32, 20
KINDS = ("classic", "quorum")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of queue, seen from one node."""

    kind: str
    node: str
    """`leader` or `other`."""
    confirm_ms: float
    """Median from the publish to the broker's confirm, one after another."""
    confirm_p95_ms: float
    through_ms: float
    """Median from the publish to the message in hand, and acked."""
    a_second: float
    """Confirmed publishes, 32 at once."""


@dataclass(slots=True)
class _Times:
    """What was measured of one kind from one node, in all rounds."""

    confirms: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    a_second: list[float] = field(default_factory=list)

    def cost(self, kind: str, node: str) -> Cost:
        return Cost(
            kind,
            node,
            round(statistics.median(self.confirms), 2),
            round(statistics.quantiles(self.confirms, n=20)[18], 2),
            round(statistics.median(self.through), 2),
            round(statistics.median(self.a_second)),
        )


async def measure(stage: Stage) -> list[Cost]:
    """Return the costs of both kinds, from both places. What disturbs one round disturbs all of it."""
    nodes = dict(zip(("leader", "other"), stage.nodes, strict=False))
    times = {(kind, place): _Times() for kind in KINDS for place in nodes}
    async with _connected(stage, nodes["leader"]) as connection:
        channel = await connection.channel()
        for kind in KINDS:
            # Who declares a queue has it on the node that it is connected to.
            arguments = {"x-queue-type": kind}
            await channel.declare_queue(f"bench.{kind}", durable=True, arguments=arguments)
    for _ in range(ROUNDS):
        for (kind, place), so_far in times.items():
            async with _connected(stage, nodes[place]) as connection:
                await _measure(connection, f"bench.{kind}", so_far)
    return [so_far.cost(kind, place) for (kind, place), so_far in times.items()]


def _connected(stage: Stage, name: str) -> AbstractAsyncContextManager[AbstractConnection]:
    return dialled(stage.nodes[name].amqp_url("admin"), "chaos queues")


async def _measure(connection: AbstractConnection, queue: str, times: _Times) -> None:
    channel = await connection.channel()
    times.confirms += [await _publish(channel, queue) for _ in range(WARM_UP + ALONE)][WARM_UP:]
    await _empty(channel, queue)
    times.through += await _through(connection, channel, queue)
    channels = [await connection.channel() for _ in range(AT_ONCE)]
    began = time.monotonic()
    for _ in range(TIMES):
        await asyncio.gather(*(_publish(each, queue) for each in channels))
    times.a_second.append(TIMES * AT_ONCE / (time.monotonic() - began))
    await _empty(channel, queue)


async def _empty(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).purge()


async def _publish(channel: AbstractChannel, queue: str) -> float:
    """Publish one, and return the milliseconds until the broker has confirmed it."""
    began = time.monotonic()
    message = aio_pika.Message(BODY, delivery_mode=2, priority=4)
    await channel.default_exchange.publish(message, queue, mandatory=True)
    return 1e3 * (time.monotonic() - began)


async def _through(
    connection: AbstractConnection, channel: AbstractChannel, queue: str
) -> list[float]:
    """Return the milliseconds from each publish until the message was in hand, and acked."""
    reader = await connection.channel(publisher_confirms=False)
    await reader.set_qos(prefetch_count=1)
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        await message.ack()
        await arrived.put(time.monotonic())

    await (await reader.get_queue(queue, ensure=False)).consume(take)
    times = []
    for _ in range(ALONE):
        began = time.monotonic()
        await _publish(channel, queue)
        times.append(1e3 * (await arrived.get() - began))
    await reader.close()
    return times
