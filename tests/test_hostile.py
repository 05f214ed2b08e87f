"""Messages that no honest client sends: none stops the consumer, none is lost."""

import asyncio
from uuid import uuid4

import pika
import pytest

from tests.rpc import Requester


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def _goes_on(service, requester):
    """The next request gets its picture, over the link that there was."""
    job_id = str(uuid4())
    asked = {"prompt": "x", "width": 256, "height": 256}
    assert (await requester.ask(asked, message_id=job_id))["success"]
    assert service.health()["broker"]["generation"] == 1
    # The last that is told of this test: the next one waits for what it caused itself.
    await asyncio.to_thread(service.wait, "settled", job_id=job_id)


HOSTILE = {
    "timestamp beyond all years": {"timestamp": 2**63 - 1},
    "timestamp beyond a date": {"timestamp": 2**40},
    "expiration of fifty thousand years": {"expiration": "4294967295"},
    "correlation id of 255 bytes": {"correlation_id": "c" * 255},
    "reply_to that is no queue": {"reply_to": "no such queue"},
    "reply_to of 255 bytes": {"reply_to": "r" * 255},
    "reply_to in disguise": {"reply_to": "imagegen.requests\n"},
    "direct reply-to of nobody": {"reply_to": "amq.rabbitmq.reply-to.nobody"},
    "priority": {"priority": 255},
    "delivery mode": {"delivery_mode": 1},
    "headers of every type": {
        "headers": {"a": {"b": [1, None, True, b"\xff"]}, "x-imagegen-accept": "image/*"}
    },
    "accept is a table": {"headers": {"x-imagegen-accept": {"image/": 1}}},
    "traceparent is a number": {"headers": {"traceparent": 7}},
    "x-death forged": {"headers": {"x-death": ["x", {"reason": 1}]}},
    "app id, cluster id": {"app_id": "a" * 255, "cluster_id": "c" * 255},
    "content type in disguise": {"content_type": "application/json; charset=utf-8"},
}


def _publish(url, bodies_and_properties):
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for body, properties in bodies_and_properties:
            channel.basic_publish(
                "imagegen", "imagegen.requests", body, pika.BasicProperties(**properties)
            )


UNREADABLE = {
    "correlation id": {"correlation_id": b"\xff\xfe"},
    "reply_to": {"reply_to": b"\xff\xfe"},
    "message id": {"message_id": b"\xff\xfe"},
    "type": {"type": b"\xff\xfe"},
    "content type": {"content_type": b"\xff\xfe"},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_properties_stop_nothing(service, requester, broker, name):
    """Whatever the properties say, the message is settled and the next one gets its picture."""
    body = b'{"prompt": "x", "width": 256, "height": 256}'
    await asyncio.to_thread(_publish, broker.url(), [(body, HOSTILE[name])])
    await asyncio.to_thread(service.wait, "settled")
    await _goes_on(service, requester)


async def test_a_body_of_fifteen_mebibytes_is_refused(service, requester):
    """A body far over the limit gets its code, like one just over it."""
    reply = await requester.ask(b'{"prompt": "' + b"x" * (15 << 20) + b'"}')
    assert reply["error"]["code"] == "request_too_large"
    await _goes_on(service, requester)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_properties_that_are_no_utf8_are_parked(service, requester, broker, name):
    """What no answer can be addressed by goes to the parking queue, and the link stays up."""
    await asyncio.to_thread(_publish, broker.url(), [(b'{"prompt": "x"}', UNREADABLE[name])])
    await asyncio.to_thread(service.wait, "parked", reason="unreadable_properties")
    await _goes_on(service, requester)


async def test_a_routing_key_that_is_no_utf8_is_survived(service, requester, broker):
    """A `CC` header brings a message with any routing key into the queue: it is read all the same."""

    def publish():
        with pika.BlockingConnection(pika.URLParameters(broker.url())) as connection:
            connection.channel().basic_publish(
                "",
                b"\xff\xfe",
                b'{"prompt": "x", "width": 256, "height": 256}',
                pika.BasicProperties(headers={"CC": ["imagegen.requests"]}),
            )

    await asyncio.to_thread(publish)
    await asyncio.to_thread(service.wait, "settled")
    await _goes_on(service, requester)
