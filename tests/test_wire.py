"""What passes between the service and the broker, read off the wire."""

import asyncio
import json

import aio_pika
import pytest

from tests.proxy import BASIC_ACK, BASIC_DELIVER, BASIC_PUBLISH, FrameProxy
from tests.rpc import Requester


@pytest.fixture
async def proxy(broker):
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        yield proxy


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def test_no_delivery_is_acked_before_its_reply_is_confirmed(serve, requester, proxy):
    """The broker's confirm is held back: the reply is out, and still nothing is acked."""
    service = await asyncio.to_thread(serve(AMQP_URL=proxy.url).wait_ready)
    proxy.hold("broker", BASIC_ACK)
    await requester.publish({"prompt": "x", "width": 256, "height": 256})
    assert json.loads((await requester.reply()).body)["success"]
    await proxy.held.wait()
    # Something else goes all the way through its event loop meanwhile: it had the time to ack.
    control = await requester.channel.get_exchange("imagegen.control", ensure=False)
    await control.publish(aio_pika.Message(b'{"op": "cancel", "job_id": "other"}'), "")
    await asyncio.to_thread(service.wait, "cancel_heard", job_id="other")
    assert proxy.of("client", BASIC_ACK) == []
    proxy.released.set()
    await proxy.wait("client", BASIC_ACK)
    await asyncio.to_thread(service.wait, "settled", reply="confirmed")


async def test_confirm_then_ack_for_every_outcome(serve, requester, proxy):
    """Pictures, errors and parked copies alike: the n-th ack follows the n-th confirm."""
    await asyncio.to_thread(serve(AMQP_URL=proxy.url).wait_ready)
    await requester.ask({"prompt": "x", "width": 256, "height": 256})
    await requester.ask({"prompt": ""})
    await requester.publish(b"no json", reply_to=None, correlation_id=None)
    await requester.ask({"prompt": "boom"})
    await proxy.wait("client", BASIC_ACK, count=4)
    confirms = proxy.of("broker", BASIC_ACK)
    acks = proxy.of("client", BASIC_ACK)
    assert len(confirms) == len(acks) == 4
    assert all(confirm[0] < ack[0] for confirm, ack in zip(confirms, acks, strict=True))


async def test_consuming_and_publishing_have_a_connection_each(serve, requester, proxy):
    """In a memory alarm the broker stops reading from publishers; acks must still pass."""
    await asyncio.to_thread(serve(AMQP_URL=proxy.url).wait_ready)
    await requester.ask({"prompt": "x", "width": 256, "height": 256})
    await proxy.wait("client", BASIC_ACK)
    publishing = {connection for _, connection in proxy.of("client", BASIC_PUBLISH)}
    consuming = {connection for _, connection in proxy.of("broker", BASIC_DELIVER)}
    assert len(publishing) == len(consuming) == 1
    assert publishing != consuming
    assert {connection for _, connection in proxy.of("client", BASIC_ACK)} == consuming
