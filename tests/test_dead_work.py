"""Dead work: what is called off, expired or abandoned is not drawn, and whoever waits is told."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest

from tests.rpc import Requester


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
async def caller(broker):
    """A caller on a connection of its own, which goes away with `connection.close()`."""
    connection = await aio_pika.connect(broker.url())
    async with connection:
        caller = await Requester(await connection.channel()).start()
        caller.connection = connection
        yield caller


async def cancel(channel, job_id, **properties):
    exchange = await channel.get_exchange("imagegen.control", ensure=False)
    body = json.dumps({"op": "cancel", "job_id": job_id}).encode()
    await exchange.publish(aio_pika.Message(body, **properties), "")


def counted(service, name, **labels):
    """The value of a counter."""
    told = ",".join(f'{key}="{value}"' for key, value in labels.items())
    text = service.get("/metrics")[2].decode()
    found = re.search(rf"^{re.escape(f'{name}{{{told}}}')} (\S+)$", text, re.MULTILINE)
    assert found, f"no {name}{{{told}}}"
    return float(found[1])


WASTED, SAVED = "imagegen_gpu_wasted_seconds_total", "imagegen_gpu_saved_seconds_total"


def _abandoned(service):
    """How many requests were abandoned, and how many GPU seconds that cost."""
    return (
        counted(service, "imagegen_requests_total", outcome="abandoned"),
        counted(service, WASTED, reason="abandoned"),
    )


async def test_a_caller_who_left_before_the_start_costs_nothing(
    service, requester, caller, gate
):
    """A request whose reply queue is gone when its turn comes is not drawn."""
    abandoned, wasted = _abandoned(service)
    await requester.publish({"prompt": f"wait={gate.path}"})
    await asyncio.to_thread(gate.reached)
    await caller.publish({"prompt": "x"}, message_id="left-early")
    await caller.connection.close()
    gate.open()
    await requester.reply()
    settled = await asyncio.to_thread(service.wait, "settled", job_id="left-early")
    assert (settled["outcome"], settled["reply"]) == ("abandoned", "none")
    assert not [
        record
        for record in service.records
        if record["event"] == "started" and record["job_id"] == "left-early"
    ]
    assert _abandoned(service) == (abandoned + 1, wasted)


async def test_a_caller_who_leaves_stops_the_picture_within_a_step(service, caller, gate):
    """A picture whose caller went away is stopped at its next step."""
    before = counted(service, WASTED, reason="abandoned")
    await caller.publish({"prompt": f"wait={gate.path}"}, message_id="left-late")
    await asyncio.to_thread(gate.reached)
    await caller.connection.close()
    await asyncio.to_thread(service.wait, "caller_gone", job_id="left-late")
    gate.open()
    settled = await asyncio.to_thread(service.wait, "settled", job_id="left-late")
    assert settled["outcome"] == "abandoned"
    assert counted(service, WASTED, reason="abandoned") > before


async def test_as_long_as_one_caller_waits_it_is_drawn(house, requester, caller, gate):
    """Of two callers of one job one goes away: the other gets the picture."""
    service = await asyncio.to_thread(house.service, MAX_CONCURRENT=2)
    body = {"prompt": f"wait={gate.path}"}
    await caller.publish(body, message_id="shared")
    await asyncio.to_thread(gate.reached)
    await requester.publish(body, message_id="shared")
    await asyncio.to_thread(service.wait, "joined", job_id="shared")
    await caller.connection.close()
    await asyncio.to_thread(service.wait, "caller_gone", job_id="shared")
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]
    assert counted(service, SAVED, reason="joined") > 0


async def test_a_direct_reply_to_that_left_is_noticed(service, broker, gate):
    """The pseudo-queue of a caller who is gone counts as gone, one that waits as there."""
    connection = await aio_pika.connect(broker.url())
    async with connection:
        channel = await connection.channel()
        replies = asyncio.Queue()
        pseudo = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await pseudo.consume(replies.put, no_ack=True)

        async def ask(job_id):
            await channel.default_exchange.publish(
                aio_pika.Message(
                    json.dumps({"prompt": f"wait={gate.path}"}).encode(),
                    message_id=job_id,
                    correlation_id=job_id,
                    reply_to="amq.rabbitmq.reply-to",
                ),
                "imagegen.requests",
            )
            await asyncio.to_thread(gate.reached)

        await ask("stays")
        gate.open()
        assert json.loads((await asyncio.wait_for(replies.get(), 30)).body)["success"]
        await ask("leaves")
    await asyncio.to_thread(service.wait, "caller_gone", job_id="leaves")
    gate.open()
    settled = await asyncio.to_thread(service.wait, "settled", job_id="leaves")
    assert settled["outcome"] == "abandoned"


async def test_an_abandoned_job_is_drawn_for_who_asks_again(service, requester, caller, gate):
    """That nobody waited once is no verdict on the job: the next one who asks gets the picture."""
    body = {"prompt": f"wait={gate.path}"}
    await caller.publish(body, message_id="resumed")
    await asyncio.to_thread(gate.reached)
    await caller.connection.close()
    await asyncio.to_thread(service.wait, "caller_gone", job_id="resumed")
    gate.open()
    await asyncio.to_thread(service.wait, "settled", job_id="resumed", outcome="abandoned")
    await requester.publish(body, message_id="resumed")
    await asyncio.to_thread(gate.reached)
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]


async def test_only_who_sent_a_job_may_call_it_off(service, broker, requester, gate):
    """Where the broker verified the sender, another user's cancel is not obeyed."""
    await requester.publish(
        {"prompt": f"wait={gate.path}"}, message_id="mine", user_id="chat-backend"
    )
    await asyncio.to_thread(gate.reached)
    await cancel(requester.channel, "mine")
    await asyncio.to_thread(service.wait, "cancel_not_allowed", job_id="mine")
    connection = await aio_pika.connect(broker.url("imagegen-http"))
    async with connection:
        await cancel(await connection.channel(), "mine", user_id="imagegen-http")
        await asyncio.to_thread(service.wait, "cancel_heard", count=2, job_id="mine")
    gate.open()
    assert json.loads((await requester.reply()).body)["error"]["code"] == "cancelled"


async def test_another_users_cancel_is_not_remembered_against_a_job(service, requester):
    """A job that somebody else called off before it came is drawn; one's own dies on arrival."""
    await cancel(requester.channel, "wanted")
    await cancel(requester.channel, "unwanted", user_id="chat-backend")
    await asyncio.to_thread(service.wait, "cancel_heard", job_id="unwanted")
    body = {"prompt": "x", "width": 256, "height": 256}
    wanted = await requester.ask(body, message_id="wanted", user_id="chat-backend")
    unwanted = await requester.ask(body, message_id="unwanted", user_id="chat-backend")
    assert wanted["success"]
    assert unwanted["error"]["code"] == "cancelled"


async def test_a_deadline_stops_a_running_picture(service, requester, gate):
    """A picture whose deadline passes is stopped at its next step, and its caller is told."""
    before = counted(service, WASTED, reason="expired")
    published = datetime.now(tz=UTC) - timedelta(seconds=30)
    await requester.publish(
        {"prompt": f"wait={gate.path}"},
        message_id="too-slow",
        expiration=31.5,
        timestamp=published,
    )
    await asyncio.to_thread(gate.reached)
    await asyncio.to_thread(service.wait, "stop_requested", job_id="too-slow")
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert reply["error"]["code"] == "deadline_exceeded"
    assert counted(service, WASTED, reason="expired") > before


async def test_a_replay_counts_as_gpu_time_saved(service, requester):
    """What is answered from the store was drawn once."""
    body = {"prompt": "x", "width": 256, "height": 256}
    before = counted(service, SAVED, reason="replayed")
    first = await requester.ask(body, message_id="saved")
    await requester.ask(body, message_id="saved")
    saved = counted(service, SAVED, reason="replayed") - before
    assert saved == pytest.approx(first["generation_time"], abs=1e-6)
