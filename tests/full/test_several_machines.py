"""Several machines: services on one queue and one PostgreSQL; what one does, all know and can be asked.

They share nothing else: each has a data folder of its own, and no lock of the other's can be seen.
"""

import asyncio
import json
import signal

import aio_pika
import pytest

from tests.asking import Caller, held
from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}


@pytest.fixture
def machine(serve, postgres, tmp_path):
    """Start a machine by its name, and return when it consumes."""
    with postgres.database() as url:

        async def start(name, **settings):
            settings = {"STORE_URL": url, "DATA_DIR": tmp_path / name, **settings}
            service = serve(WORKER_NAME=name, **settings)
            await asyncio.to_thread(service.wait_ready)
            return service

        yield start


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
async def words(broker):
    """What is said to all machines."""
    said = asyncio.Queue()
    async with await aio_pika.connect(broker.url("imagegen-consumer")) as connection:
        listening = await connection.channel()
        queue = await listening.declare_queue("", exclusive=True)
        await queue.bind("imagegen.control")
        await queue.consume(said.put, no_ack=True)
        yield said


@pytest.fixture
async def drawing(machine, requester, gate):
    """Two machines, of which `first` draws `shared` and waits at the gate."""
    first = await machine("first")
    body = {"prompt": f"wait={gate.path} step=0.1", **SMALL}
    await requester.publish(body, message_id="shared", correlation_id="once")
    await asyncio.to_thread(gate.reached)
    return first, await machine("second")


def started(service):
    return [record["job_id"] for record in service.records if record["event"] == "started"]


# ---------------------------------------------------------------- what one draws, the other tells


async def test_a_job_is_looked_up_at_a_machine_that_does_not_draw_it(drawing, requester, gate):
    """Its state while it runs; then result and picture, the bytes that were sent over AMQP."""
    _, second = drawing
    async with Caller(second) as caller:
        running = await caller.status("shared")
        gate.open()
        reply = json.loads((await requester.reply()).body)
        ended = await caller.status("shared")
        result = (await caller.get("/job/shared/result")).json()
        image = await caller.get("/job/shared/image")
    assert (running["status"], running["worker"]) == ("running", "first")
    assert (ended["status"], ended["worker"], ended["step"]) == ("succeeded", "first", 8)
    assert result["image_base64"] == reply["image_base64"]
    assert image.headers["x-imagegen-sha256"] == reply["sha256"]
    assert started(second) == []


async def test_a_job_is_followed_at_a_machine_that_does_not_draw_it(drawing, gate):
    """The steps come from where it is drawn, and the end ends the stream."""
    _, second = drawing
    async with Caller(second) as caller, caller.events("shared") as events:
        first = await anext(events)
        gate.open()
        later = [event async for event in events]
    assert (first["event"], first["data"]["worker"]) == ("running", "first")
    assert "step" in [event["event"] for event in later]
    assert later[-1]["event"] == "succeeded"


async def test_a_job_is_called_off_at_a_machine_that_does_not_draw_it(drawing, requester, gate):
    """The one that draws it stops within a step, and answers."""
    first, second = drawing
    async with Caller(second) as caller:
        answer = await caller.cancel("shared")
        assert answer.status_code == 202
        await asyncio.to_thread(first.wait, "cancel_heard", job_id="shared", here=True)
        gate.open()
        reply = json.loads((await requester.reply()).body)
        assert reply["error"]["code"] == "cancelled"
        assert (await caller.status("shared"))["status"] == "cancelled"


async def test_a_job_called_off_before_any_machine_has_it_is_started_by_none(
    machine, requester
):
    """The word reached another machine, which is gone since; the store remembers it."""
    first = await machine("first")
    control = await requester.channel.get_exchange("imagegen.control", ensure=False)
    word = json.dumps({"op": "cancel", "job_id": "never"}).encode()
    await control.publish(aio_pika.Message(word), "")
    await asyncio.to_thread(first.wait, "cancel_heard", job_id="never", here=False)
    assert await asyncio.to_thread(first.stop) == 0
    second = await machine("second")
    reply = await requester.ask({"prompt": "x", **SMALL}, message_id="never")
    assert reply["error"]["code"] == "cancelled"
    assert started(second) == []


# ---------------------------------------------------------------- drawn once


async def test_an_id_that_comes_to_two_machines_is_drawn_once(drawing, requester, gate, words):
    """The second waits for the first's end, of which it is told, and both requests are answered."""
    first, second = drawing
    body = {"prompt": f"wait={gate.path} step=0.1", **SMALL}
    await requester.publish(body, message_id="shared", correlation_id="twice")
    await asyncio.to_thread(second.wait, "joined_elsewhere", job_id="shared")
    gate.open()
    replies = {}
    for _ in range(2):
        reply = await requester.reply()
        replies[reply.correlation_id] = json.loads(reply.body)
    assert set(replies) == {"once", "twice"}
    assert replies["once"]["sha256"] == replies["twice"]["sha256"]
    assert [replies[name]["replayed"] for name in ("once", "twice")] == [False, True]
    assert (started(first), started(second)) == (["shared"], [])
    async with asyncio.timeout(30):
        done = json.loads((await words.get()).body)
    assert (done["op"], done["job_id"], done["worker"]) == ("done", "shared", "first")


async def test_a_killed_machines_picture_is_drawn_by_another(drawing, requester, gate):
    """Its lease runs out, which is all that a machine far away can know; one answer comes."""
    first, second = drawing
    first.signal(signal.SIGKILL)
    gate.open()
    await asyncio.to_thread(first.end)
    await asyncio.to_thread(second.wait, "joined_elsewhere", job_id="shared")
    await asyncio.to_thread(gate.reached)
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert (reply["success"], reply["attempt"], reply["worker"]) == (True, 2, "second")
    # Whatever else came for it would have come before the answer to a last one.
    last = await requester.ask({"prompt": "x", **SMALL}, message_id="last")
    assert last["job_id"] == "last"


async def test_a_machine_that_is_drained_hands_over_what_it_did_not_begin(
    machine, requester, gate
):
    """It finishes its picture; what waited behind it there is drawn by another, and all know."""
    first = await machine("first", MAX_CONCURRENT=2, LOG_LEVEL="debug")
    await requester.publish(held(gate), message_id="on-gpu", correlation_id="a")
    await asyncio.to_thread(gate.reached)
    await requester.publish({"prompt": "x", **SMALL}, message_id="behind", correlation_id="b")
    await asyncio.to_thread(first.wait, "taken", count=2)
    first.signal(signal.SIGTERM)
    await asyncio.to_thread(first.wait, "settled", job_id="behind", outcome="givenback")
    second = await machine("second")
    reply = await requester.reply()
    assert (reply.correlation_id, json.loads(reply.body)["worker"]) == ("b", "second")
    gate.open()
    assert json.loads((await requester.reply()).body)["worker"] == "first"
    assert await asyncio.to_thread(first.end) == 0
    async with Caller(second) as caller:
        workers = [(await caller.status(job_id))["worker"] for job_id in ("on-gpu", "behind")]
    assert workers == ["first", "second"]


async def test_news_of_a_job_goes_where_somebody_looks_at_it_and_nowhere_else(
    drawing, machine, broker, gate
):
    """With each machine listening to all, the news would grow with the square of the fleet."""
    _, second = drawing
    await machine("third")

    async def listened_to():
        page = "exchanges/imagegen/imagegen.events/bindings/source"
        bindings = await asyncio.to_thread(broker.api, page)
        return [binding["routing_key"] for binding in bindings]

    assert await listened_to() == []
    async with Caller(second) as caller, caller.events("shared") as events:
        await anext(events)
        async with asyncio.timeout(30):
            while True:
                if await listened_to() == ["job.*.shared"]:
                    break
                await asyncio.sleep(0.05)
        gate.open()
        assert [event async for event in events][-1]["event"] == "succeeded"
