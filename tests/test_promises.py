"""What the service promises, a test for each: the list in docs/reliability.md, in its order."""

import asyncio
import base64
import io
import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
from PIL import Image

from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
def serve(house, serve):
    """Services of a test's own; the shared one is not at home."""
    house.stop()
    return serve


async def gather(requester, count):
    """The next replies, by correlation id; fails on a second one for the same request."""
    replies = {}
    while len(replies) < count:
        reply = await requester.reply()
        assert reply.correlation_id not in replies, "two answers to one request"
        replies[reply.correlation_id] = json.loads(reply.body)
    return replies


async def test_every_accepted_request_gets_exactly_one_visible_terminal_answer(
    serve, requester, gate
):
    """Good, bad, expired and killed in the middle: one answer each; drawn is drawn once."""
    first = serve()
    await asyncio.to_thread(first.wait_ready)
    old = datetime.now(tz=UTC) - timedelta(seconds=30)
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, correlation_id="killed")
    await asyncio.to_thread(gate.reached)
    await requester.publish({"prompt": "x", **SMALL}, correlation_id="good")
    await requester.publish({"prompt": ""}, correlation_id="bad")
    await requester.publish(
        {"prompt": "x"}, correlation_id="expired", expiration=20, timestamp=old
    )
    await requester.publish({"prompt": "x"}, correlation_id="ran out", expiration=0.001)
    await requester.publish(b"no json", correlation_id="malformed")
    first.kill()
    gate.open()
    second = serve()
    await asyncio.to_thread(second.wait_ready)
    await asyncio.to_thread(gate.reached)
    gate.open()
    replies = await gather(requester, 6)
    told = {name: reply.get("error", {}).get("code") for name, reply in replies.items()}
    assert told == {
        "killed": None,
        "good": None,
        "bad": "invalid_request",
        "expired": "deadline_exceeded",
        "ran out": "deadline_exceeded",
        "malformed": "invalid_request",
    }
    # Whatever else came would have come before the answer to a last one.
    await requester.publish({"prompt": "last", **SMALL}, correlation_id="last")
    assert set(await gather(requester, 1)) == {"last"}


async def test_no_gpu_time_is_spent_on_dead_work(service, requester, channel, gate):
    """Called off in the line: never started. Called off while running: over within a step."""
    await requester.publish(
        {"prompt": f"wait={gate.path}", **SMALL}, message_id="runs", correlation_id="runs"
    )
    await asyncio.to_thread(gate.reached)
    await requester.publish({"prompt": "x"}, message_id="waits", correlation_id="waits")
    control = await channel.get_exchange("imagegen.control", ensure=False)
    for job_id in ("waits", "runs"):
        body = json.dumps({"op": "cancel", "job_id": job_id}).encode()
        await control.publish(aio_pika.Message(body), "")
        await asyncio.to_thread(service.wait, "cancel_heard", job_id=job_id)
    events = asyncio.Queue()
    queue = await channel.declare_queue("", exclusive=True)
    await queue.bind("imagegen.events", "job.#")
    await queue.consume(events.put, no_ack=True)
    gate.open()
    replies = await gather(requester, 2)
    assert {reply["error"]["code"] for reply in replies.values()} == {"cancelled"}
    started = [r["job_id"] for r in service.records if r["event"] == "started"]
    assert started == ["runs"]
    steps = []
    while not events.empty():
        event = json.loads((await events.get()).body)
        steps += [event["step"]] if event["state"] == "step" else []
    assert len(steps) <= 1, "it went on for more than one step"


async def test_the_queue_is_bounded_and_says_so(serve, requester, gate):
    """Beyond twenty waiting, and the one in hand, a request is refused at once."""
    service = serve()
    await asyncio.to_thread(service.wait_ready)
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL})
    await asyncio.to_thread(gate.reached)
    words = []
    for _ in range(25):
        try:
            await requester.publish({"prompt": "x", **SMALL})
            words.append("accepted")
        except aio_pika.exceptions.DeliveryError:
            words.append("refused")
    assert words == ["accepted"] * 20 + ["refused"] * 5
    gate.open()
    replies = await gather(requester, 21)
    assert all(reply["success"] for reply in replies.values())


async def test_the_gpu_cannot_take_the_service_down(service, requester, gate):
    """The child is killed in a picture: health tells it, and the caller gets the picture."""
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL})
    await asyncio.to_thread(gate.reached)
    before = service.health()
    os.kill(before["gpu"]["pid"], signal.SIGKILL)
    await asyncio.to_thread(service.wait, "gpu_lost")
    gate.open()
    await asyncio.to_thread(gate.reached)
    during = service.health()
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]
    assert during["gpu"]["restarts"] == before["gpu"]["restarts"] + 1
    assert during["gpu"]["pid"] != before["gpu"]["pid"]
    assert service.process.poll() is None


async def test_parameters_are_honest(service, requester):
    """What has no effect is refused; what was used is told, and stands in the picture."""
    refused = await requester.ask({"prompt": "x", "guidance_scale": 7.5})
    assert [problem["field"] for problem in refused["error"]["details"]] == ["guidance_scale"]
    reply = await requester.ask({"prompt": "x", "width": 500, "height": 300, "seed": 7})
    used = {name: reply[name] for name in ("width", "height", "seed", "forwards")}
    assert used == {"width": 512, "height": 320, "seed": 7, "forwards": 8}
    image = Image.open(io.BytesIO(base64.b64decode(reply["image_base64"])))
    embedded = json.dumps(image.info)
    assert image.size == (512, 320)
    assert all(word in embedded for word in ("seed", "forwards", "scripted"))


async def test_more_machines_are_more_consumers(serve, requester):
    """A second consumer on the same queue draws as well, and each request is drawn once."""
    for name in ("first", "second"):
        await asyncio.to_thread(serve(WORKER_NAME=name).wait_ready)
    for _ in range(12):
        await requester.publish({"prompt": "draw=0.1", **SMALL})
    replies = await gather(requester, 12)
    assert all(reply["success"] for reply in replies.values())
    workers = Counter(reply["worker"] for reply in replies.values())
    assert set(workers) == {"first", "second"}
    assert all(reply["attempt"] == 1 for reply in replies.values())
