"""The presence: whether a caller still waits, asked of a real broker over a link that breaks."""

import asyncio

import pytest

from consumer.connection import Broker
from consumer.presence import Presence
from tests.proxy import FrameProxy

DECLARE = (50, 10)
"""Of a queue: AMQP 0-9-1, class and method id."""
DIRECT = "amq.rabbitmq.reply-to.g2dkAA5yZXBseUBsb2NhbGhvc3QAAAAAAAAAAQAAAAA=.key"
"""Well formed, of a process that is not there."""


@pytest.fixture
async def proxy(broker):
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        yield proxy


@pytest.fixture
async def link(proxy):
    """A supervised link through the proxy."""
    link = Broker(proxy.url, "tester")
    link.changed = asyncio.Event()
    link.on_change(link.changed.set)
    running = asyncio.get_running_loop().create_task(link.run())
    async with asyncio.timeout(30):
        await link.wait_connected()
    yield link
    running.cancel()
    await asyncio.wait({running})


async def _break_while_asked(proxy, link, presence, reply_to):
    """Ask, and cut the link before the broker has heard; returns on the next session."""
    proxy.hold("client", DECLARE)
    generation = link.generation
    asked = asyncio.get_running_loop().create_task(presence.gone(reply_to))
    async with asyncio.timeout(30):
        await proxy.held.wait()
        proxy.cut()
        assert not await asked
        while not (link.connected and link.generation > generation):
            link.changed.clear()
            await link.changed.wait()


async def test_a_caller_is_asked_about_again_after_a_blip(proxy, link, channel):
    """A link that broke on the question says nothing of the queue: the next one is answered."""
    queue = await channel.declare_queue("imagegen.client.blip", exclusive=True)
    presence = Presence(link)
    await _break_while_asked(proxy, link, presence, queue.name)
    assert not await presence.gone(queue.name)
    await queue.delete()
    assert await presence.gone(queue.name)


async def test_a_name_that_may_have_broken_the_broker_is_left_alone(proxy, link):
    """A direct reply-to that the link broke on is not asked about again: it would break again."""
    presence = Presence(link)
    await _break_while_asked(proxy, link, presence, DIRECT)
    assert not await presence.gone(DIRECT)
    assert proxy.of("client", DECLARE) == []
