"""The service at its start and its end: what it takes up, gives back and carries over."""

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
import pytest

from tests.rpc import Requester


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def test_an_expired_request_is_not_drawn(serve, requester):
    """What waited longer than its caller's patience is answered `deadline_exceeded`."""
    old = datetime.now(tz=UTC) - timedelta(seconds=30)
    await requester.publish({"prompt": "x"}, expiration=60, timestamp=old)
    await requester.publish({"prompt": "x"}, expiration=20, timestamp=old)
    serve().wait_ready()
    replies = [json.loads((await requester.reply()).body) for _ in range(2)]
    assert [reply["success"] for reply in replies] == [True, False]
    assert replies[1]["error"]["code"] == "deadline_exceeded"


async def test_what_the_broker_expired_is_answered_too(serve, requester):
    """A request that ran out in the queue is answered by way of the dead letters: no silence."""
    await requester.publish({"prompt": "x"}, expiration=0.001, correlation_id="late")
    served = serve().wait_ready()
    reply = await requester.reply()
    assert reply.correlation_id == "late"
    assert json.loads(reply.body)["error"]["code"] == "deadline_exceeded"
    served.wait("settled", outcome="expired", correlation_id="late")


async def test_deaths_are_counted_over_restarts(serve, requester, tmp_path):
    """A job that killed the GPU process before the service was restarted has one life less."""
    first = serve().wait_ready()
    prompt = f"die=9 lives={tmp_path / 'lives'}"
    reply = await requester.ask({"prompt": prompt}, message_id="killer")
    assert reply["error"]["code"] == "gpu_died"
    assert await asyncio.to_thread(first.stop) == 0
    serve().wait_ready()
    reply = await requester.ask({"prompt": prompt}, message_id="killer")
    assert reply["error"]["code"] == "poison"
    assert (tmp_path / "lives").read_text() == "xxx"


async def test_kill_of_the_service_in_a_picture(serve, requester, gate):
    """The service is killed in a picture and started again: the caller still gets its picture."""
    first = serve().wait_ready()
    await requester.publish({"prompt": f"wait={gate.path}"}, message_id="survivor")
    await asyncio.to_thread(gate.reached)
    first.kill()
    gate.open()
    serve().wait_ready()
    await asyncio.to_thread(gate.reached)
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert (reply["success"], reply["job_id"], reply["attempt"]) == (True, "survivor", 2)


async def test_a_hang_is_ended_by_the_hard_limit(serve, requester):
    """A child that does not finish is replaced; after one more try the caller is told."""
    served = serve(JOB_TIMEOUT_S=0.3).wait_ready()
    reply = await requester.ask({"prompt": "hang"})
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("gpu_timeout", True)
    served.wait("gpu_lost", deaths=2)


async def test_a_stop_finishes_the_work_in_hand(serve, requester, gate):
    """The first SIGTERM drains: the picture in hand is answered, then the exit code is 0."""
    served = serve().wait_ready()
    await requester.publish({"prompt": f"wait={gate.path}"})
    await asyncio.to_thread(gate.reached)
    served.signal(signal.SIGTERM)
    served.wait("draining")
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]
    assert await asyncio.to_thread(served.end) == 0


async def test_a_second_signal_gives_the_work_back(serve, requester, gate):
    """The second SIGTERM does not wait: what is in hand is requeued, and drawn elsewhere."""
    first = serve().wait_ready()
    await requester.publish({"prompt": f"wait={gate.path}"}, message_id="given-back")
    await asyncio.to_thread(gate.reached)
    first.signal(signal.SIGTERM)
    first.wait("draining")
    first.signal(signal.SIGTERM)
    first.wait("giving_back")
    gate.open()
    assert await asyncio.to_thread(first.end) == 0
    assert first.wait("settled")["outcome"] == "givenback"
    serve().wait_ready()
    await asyncio.to_thread(gate.reached)
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]


async def test_metrics_and_pages(serve, requester):
    """The pages answer, and what was done is counted."""
    service = serve().wait_ready()
    await requester.ask({"prompt": "x"})
    await asyncio.to_thread(service.wait, "settled")
    assert service.get("/livez")[0] == 200
    assert service.get("/readyz")[0] == 200
    assert json.loads(service.get("/")[2])["service"] == "imagegen"
    status, headers, text = service.get("/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert 'imagegen_requests_total{outcome="succeeded"} 1.0' in text.decode()
    assert 'imagegen_errors_total{code="poison"} 0.0' in text.decode()
    health = service.health()
    assert (health["status"], health["state"]) == ("pass", "ready")
    assert health["broker"]["version"]


async def test_the_prefetch_is_the_concurrency_limit(serve, broker):
    """The broker itself reports each consumer's prefetch as its `IMAGE_GEN_MAX_CONCURRENT`."""
    wanted = {1, 2, 8}
    services = [serve(MAX_CONCURRENT=limit, WORKER_NAME=f"of-{limit}") for limit in wanted]
    for service in services:
        await asyncio.to_thread(service.wait_ready)
    told = {}
    async with asyncio.timeout(30):
        while len(told) < len(wanted):
            told = {
                consumer["consumer_tag"].partition(".")[0]: consumer["prefetch_count"]
                for consumer in await asyncio.to_thread(broker.api, "consumers/imagegen")
                if consumer["queue"]["name"] == "imagegen.requests"
            }
    assert told == {f"of-{limit}": limit for limit in wanted}


async def test_a_burst_is_bounded_exactly(broker, serve):
    """No consumer, 100 confirmed publishes over 10 channels: 20 are taken, 80 refused."""
    broker.purge()
    connection = await aio_pika.connect(broker.url())
    async with connection:
        channels = [await connection.channel() for _ in range(10)]

        async def publish(index):
            exchange = await channels[index % 10].get_exchange("imagegen", ensure=False)
            message = aio_pika.Message(
                b'{"prompt": "x"}', message_id=str(uuid4()), delivery_mode=2, priority=4
            )
            try:
                await exchange.publish(message, "imagegen.requests")
            except aio_pika.exceptions.DeliveryError:
                return "refused"
            return "taken"

        words = await asyncio.gather(*(publish(index) for index in range(100)))
    assert (words.count("taken"), words.count("refused")) == (20, 80)
    assert broker.waiting() == 20
    broker.purge()


async def test_a_model_that_cannot_be_loaded_is_refused_at_start(serve):
    """A model that is not there ends the start with a sentence and exit code 78."""
    served = serve(MODEL="refuse")
    assert await asyncio.to_thread(served.end) == 78
    problem = served.wait("model_cannot_be_loaded")["problem"]
    assert problem == "There is no such model. Choose another."


async def test_a_broker_that_comes_later_is_waited_for(
    serve, broker, requester, unused_tcp_port
):
    """Without a broker the service says so and goes on trying; nothing is fatal about it."""
    served = serve(AMQP_URL=f"amqp://a:b@127.0.0.1:{unused_tcp_port}/imagegen")
    served.wait("broker_unreachable")
    assert served.get("/readyz")[0] == 503
    assert served.get("/livez")[0] == 200
    assert served.stop() == 0


async def test_a_second_consumer_with_a_store_of_its_own_is_warned(serve, tmp_path):
    """Two consumers whose stores are local files cannot answer for each other, and say so."""
    first = serve().wait_ready()
    second = serve(STORE_URL=f"sqlite:///{tmp_path / 'other.sqlite'}").wait_ready()
    assert second.wait("other_consumers")["consumers"] == 1
    assert not [record for record in first.records if record["event"] == "other_consumers"]
