"""Faults in messages: bodies and properties that no honest client sends, each booked and awaited."""

import asyncio
import contextlib
import json

import pika

from bench.chaos.job import Job
from bench.chaos.rows import Scene
from tests.test_hostile import HOSTILE, UNREADABLE
from tests.test_service import BAD

NOBODY = Job("", 0, "")
PATIENCE_S = 10.0
TOO_LARGE = 17 << 20
"""Bytes; the broker takes 16 MiB."""


async def malformed(scene: Scene) -> None:
    """Every wrong body and property: each gets its code, and the pictures go on."""
    for number, (body, properties, code, _) in enumerate(BAD.values()):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request_id = f"malformed-{number}"
        await scene.load.wire.ask(
            NOBODY,
            20.0,
            wants=(code,),
            body=raw,
            **{"correlation_id": request_id, "message_id": request_id, **properties},
        )
        await scene.load.answered(request_id, PATIENCE_S)


async def hostile(scene: Scene) -> None:
    """Properties beyond years, alphabets and sizes: none stops a consumer or its connection."""
    generations = await _generations(scene)
    body = b'{"prompt": "draw=0.01", "width": 256, "height": 256}'
    messages = [(body, dict(properties)) for properties in HOSTILE.values()]
    messages += [(body, dict(properties)) for properties in UNREADABLE.values()]
    await asyncio.to_thread(_publish, scene.house.wire_url(), messages)
    await scene.load.pictures(4, 30.0)
    await asyncio.to_thread(_publish_too_large, scene.house.wire_url())
    scene.note(f"broker sessions before {generations}, after {await _generations(scene)}")


def _publish(url: str, messages: list[tuple[bytes, dict[str, object]]]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for body, properties in messages:
            channel.basic_publish(
                "imagegen", "imagegen.requests", body, pika.BasicProperties(**properties)
            )


def _publish_too_large(url: str) -> None:
    """The broker itself refuses it, and closes the channel."""
    with (
        contextlib.suppress(pika.exceptions.AMQPError),
        pika.BlockingConnection(pika.URLParameters(url)) as connection,
    ):
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("imagegen", "imagegen.requests", bytes(TOO_LARGE))


async def _generations(scene: Scene) -> list[int]:
    pages = [
        await asyncio.to_thread(place.alive.health) for place in scene.house.places.values()
    ]
    return [page["broker"]["generation"] for page in pages]
