"""Two consumers of one queue with one store: what one began or finished, the other knows."""

import asyncio
import json
import os
import signal

import pytest

from tests.proxy import BASIC_ACK, FrameProxy
from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


def started(*services):
    """Who started which job, in no order."""
    return [
        record["job_id"]
        for service in services
        for record in service.records
        if record["event"] == "started"
    ]


async def test_an_answer_whose_ack_was_lost_is_not_sent_twice(serve, broker, requester):
    """The reply is confirmed and the link cut before the ack: the redelivery is only acked."""
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        proxy.hold("client", BASIC_ACK)
        service = serve(AMQP_URL=proxy.url)
        await asyncio.to_thread(service.wait_ready)
        await requester.publish({"prompt": "x", **SMALL}, message_id="once")
        assert json.loads((await requester.reply()).body)["success"]
        await proxy.held.wait()
        proxy.cut()
        await asyncio.to_thread(service.wait, "settled", outcome="answeredbefore")
        assert (await requester.ask({"prompt": "next", **SMALL}, message_id="next"))["success"]
        assert requester.replies.empty()
        assert started(service) == ["once", "next"]
        await asyncio.to_thread(service.stop)


async def test_a_redelivery_joins_the_consumer_that_draws(serve, broker, requester, gate):
    """One loses its link in a picture; the other gets the request, and waits for that picture."""
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        first = serve(AMQP_URL=proxy.url, WORKER_NAME="first")
        await asyncio.to_thread(first.wait_ready)
        await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="shared")
        await asyncio.to_thread(gate.reached)
        second = serve(WORKER_NAME="second")
        await asyncio.to_thread(second.wait_ready)
        proxy.refuse()
        proxy.cut()
        await asyncio.to_thread(second.wait, "joined_elsewhere", job_id="shared")
        gate.open()
        await asyncio.to_thread(first.wait, "ended", job_id="shared")
        proxy.accept()
        reply = json.loads((await requester.reply()).body)
        assert (reply["success"], reply["replayed"]) == (True, True)
        assert started(first, second) == ["shared"]
        assert (await asyncio.to_thread(first.stop), await asyncio.to_thread(second.stop)) == (
            0,
            0,
        )


async def test_a_killed_consumers_job_is_taken_over(serve, requester, gate):
    """The owner is dead, which its lock proves as soon as it is gone: the other draws the picture."""
    first = serve(WORKER_NAME="first")
    await asyncio.to_thread(first.wait_ready)
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="orphan")
    await asyncio.to_thread(gate.reached)
    second = serve(WORKER_NAME="second")
    await asyncio.to_thread(second.wait_ready)
    first.signal(signal.SIGKILL)
    # Before the other one comes to it; and it comes when nobody is left there of the first.
    gate.open()
    await asyncio.to_thread(first.end)
    await asyncio.to_thread(gate.reached)
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert (reply["success"], reply["attempt"], reply["worker"]) == (True, 2, "second")


async def test_a_drain_gives_what_is_not_on_the_gpu_to_the_other(serve, requester, gate):
    """Told to stop, a consumer finishes its picture; what waited behind it is drawn elsewhere."""
    first = serve(WORKER_NAME="first", MAX_CONCURRENT=2, LOG_LEVEL="debug")
    await asyncio.to_thread(first.wait_ready)
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="on-gpu")
    await asyncio.to_thread(gate.reached)
    await requester.publish({"prompt": "x", **SMALL}, message_id="behind", correlation_id="b")
    await asyncio.to_thread(first.wait, "taken", count=2)
    first.signal(signal.SIGTERM)
    settled = await asyncio.to_thread(first.wait, "settled", job_id="behind")
    assert settled["outcome"] == "givenback"
    second = serve(WORKER_NAME="second")
    await asyncio.to_thread(second.wait_ready)
    reply = await requester.reply()
    assert (reply.correlation_id, json.loads(reply.body)["worker"]) == ("b", "second")
    gate.open()
    assert json.loads((await requester.reply()).body)["worker"] == "first"
    assert await asyncio.to_thread(first.end) == 0


async def test_a_stopped_consumer_is_replaced_and_changes_nothing_when_it_goes_on(
    serve, broker, requester, gate
):
    """Its lease runs out while it is stopped; its late end does not count."""
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        first = serve(AMQP_URL=proxy.url, WORKER_NAME="first")
        await asyncio.to_thread(first.wait_ready)
        await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="frozen")
        await asyncio.to_thread(gate.reached)
        os.kill(first.process.pid, signal.SIGSTOP)
        gate.open()
        second = serve(WORKER_NAME="second")
        await asyncio.to_thread(second.wait_ready)
        # As the broker does by itself after 20 to 30 s of silence; then the lease runs out as well.
        proxy.cut()
        await asyncio.to_thread(second.wait, "joined_elsewhere")
        await asyncio.to_thread(gate.reached)
        gate.open()
        reply = json.loads((await requester.reply()).body)
        assert (reply["success"], reply["worker"]) == (True, "second")
        os.kill(first.process.pid, signal.SIGCONT)
        await asyncio.to_thread(first.wait, "broker_connected", count=2)
        asked = {"prompt": f"wait={gate.path}", **SMALL}
        again = await requester.ask(asked, message_id="frozen")
        assert (again["replayed"], again["sha256"]) == (True, reply["sha256"])
        assert await asyncio.to_thread(first.stop) == 0


async def test_a_request_whose_queue_was_deleted_is_answered_all_the_same(
    service, broker, requester, gate
):
    """The broker brings it to nobody again: who has it in hand answers it, and goes on."""
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="last")
    await asyncio.to_thread(gate.reached)
    requests, binding = "queues/imagegen/imagegen.requests", "bindings/imagegen/e/imagegen/q"
    await asyncio.to_thread(broker.api, requests, "DELETE")
    await asyncio.to_thread(service.wait, "broker_lost")
    gate.open()
    arguments = {"x-queue-type": "classic"}
    declare = {"durable": True, "arguments": arguments}
    await asyncio.to_thread(broker.api, requests, "PUT", declare)
    key = {"routing_key": "imagegen.requests"}
    await asyncio.to_thread(broker.api, f"{binding}/imagegen.requests", "POST", key)
    reply = json.loads((await requester.reply()).body)
    assert (reply["success"], reply["job_id"]) == (True, "last")
    await asyncio.to_thread(service.wait, "broker_connected", count=2)
    assert (await requester.ask({"prompt": "next", **SMALL}))["success"]


async def test_requests_are_taken_though_nobody_can_read_the_dead_letters(
    serve, broker, requester
):
    """A queue of dead letters that is missing is told, and keeps nobody from their picture."""
    expired, binding = "queues/imagegen/imagegen.expired", "bindings/imagegen/e/imagegen.dlx/q"
    await asyncio.to_thread(broker.api, expired, "DELETE")
    try:
        service = serve()
        await asyncio.to_thread(service.wait, "dead_letters_unread")
        assert (await requester.ask({"prompt": "x", **SMALL}))["success"]
    finally:
        declare = {"durable": True, "arguments": {"x-queue-type": "classic"}}
        await asyncio.to_thread(broker.api, expired, "PUT", declare)
        await asyncio.to_thread(broker.api, f"{binding}/imagegen.expired", "POST", {})
    await requester.publish({"prompt": "x"}, expiration=0.001, correlation_id="late")
    # Read again at the latest when it is tried the next time.
    assert (await requester.reply()).correlation_id == "late"
