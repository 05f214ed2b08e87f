"""Faults of the broker: stopped, killed, short of memory, its queue taken away."""

import asyncio
import time
from collections.abc import Callable

from bench.chaos.admin import REQUESTS, VHOST
from bench.chaos.nodes import FULL_WATERMARK, TINY_WATERMARK
from bench.chaos.rows import Scene
from control import loopback

LOOK_EVERY_S = 0.02
PATIENCE_S = 40.0


async def restart(scene: Scene) -> None:
    """The node is stopped in order and started again."""
    await _down_and_up(scene, scene.house.node.stop)


async def kill(scene: Scene) -> None:
    """The node is killed and started again."""
    await _down_and_up(scene, scene.house.node.kill)


async def _down_and_up(scene: Scene, down: Callable[[], None]) -> None:
    node = scene.house.node
    await asyncio.to_thread(down)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(node.ensure_running))
        await asyncio.to_thread(_wait_for_greeting, node.amqp_port)
        scene.healed()


def _wait_for_greeting(port: int) -> None:
    while not loopback.speaks_amqp(port):
        time.sleep(LOOK_EVERY_S)


async def memory_alarm(scene: Scene) -> None:
    """The broker blocks everybody who publishes for some seconds."""
    node = scene.house.node
    await asyncio.to_thread(node.set_watermark, TINY_WATERMARK)
    await asyncio.sleep(0.5 if scene.short else 5.0)
    await asyncio.to_thread(node.set_watermark, FULL_WATERMARK)
    scene.healed()


async def queue_recreated(scene: Scene) -> None:
    """The queue is deleted when nothing waits in it, but with a job in hand, and created again."""
    admin = scene.house.admin
    path = f"queues/{VHOST}/{REQUESTS}"
    live = await admin.queue(REQUESTS)
    # What the broker itself forgets, or confirms in this very moment, is no consumer's to answer.
    scene.load.resting = True
    job = scene.load.job("draw=1.5")
    await scene.load.wire.ask(job, 15.0)
    await scene.started(job)
    while await admin.queue(REQUESTS):
        await admin.ask(f"{path}?if-empty=true", "DELETE")
    await asyncio.sleep(0.2 if scene.short else 1.0)
    await admin.ask(path, "PUT", {"durable": True, "arguments": live["arguments"]})
    binding = {"routing_key": REQUESTS, "arguments": {}}
    await admin.ask(f"bindings/{VHOST}/e/imagegen/q/{REQUESTS}", "POST", binding)
    scene.load.resting = False
    scene.healed()


async def node_killed(scene: Scene) -> None:
    """The node that leads the queue and has all links is killed; later it comes back."""
    house = scene.house
    links = (house.client_link, *house.links)
    await asyncio.to_thread(house.node.kill)
    for link in links:
        link.lead_to(house.survivor.amqp_port)
    scene.healed()
    await scene.load.pictures(10, PATIENCE_S)
    await asyncio.to_thread(house.node.ensure_running)
    for link in links:
        link.lead_to(house.node.amqp_port)
