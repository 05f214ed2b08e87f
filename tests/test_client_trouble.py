"""The client in trouble: whatever is lost on the way, its caller gets one answer, never silence."""

import asyncio
import subprocess
from urllib.parse import quote

import aio_pika
import pytest

from imagegen_client import (
    DeadlineExceeded,
    ImageClient,
    Retry,
    Unavailable,
)
from imagegen_client import dial as dial_module
from imagegen_client import job as job_module
from imagegen_client import link as link_module
from imagegen_client import pending as pending_module
from imagegen_client import session as session_module
from tests.conftest import VHOST
from tests.impostor import fill, in_the_services_place
from tests.proxy import BASIC_ACK, BASIC_NACK, BASIC_PUBLISH, FrameProxy
from tests.test_client import under_way

RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
SMALL = {"width": 256, "height": 256}


@pytest.fixture
async def impostor(broker):
    async with in_the_services_place(broker) as impostor:
        yield impostor


@pytest.fixture
async def client(broker):
    async with ImageClient(broker.url()) as client:
        yield client


@pytest.fixture
async def proxy(broker):
    async with FrameProxy(broker.url()) as proxy:
        yield proxy


# ---------------------------------------------------------------- the reply queue is lost


async def test_with_an_exclusive_reply_queue_a_lost_connection_is_asked_over(impostor, proxy):
    """The queue went with the connection: the same id and body, another queue, less patience."""
    async with ImageClient(proxy.url, reply_queue="exclusive") as client:
        async with under_way(client, "x", job_id="kept") as picture:
            first = await impostor.request()
            proxy.cut()
            second = await impostor.request()
            await impostor.draw(second)
            assert (await picture).seed == 1
        assert (first.message_id, second.message_id) == ("kept", "kept")
        assert first.body == second.body
        assert first.reply_to.startswith("amq.gen-")
        assert first.reply_to != second.reply_to
        assert second.expiration < first.expiration


async def test_nothing_is_drawn_twice_for_it(service, proxy, gate):
    """The service joins the job that runs; the caller gets the picture of the first attempt."""
    async with (
        ImageClient(proxy.url, reply_queue="exclusive") as client,
        under_way(client, f"wait={gate.path}", job_id="joined", **SMALL) as picture,
    ):
        await asyncio.to_thread(service.wait, "started", job_id="joined")
        await asyncio.to_thread(gate.reached)
        before = (await client._link.session()).reply_to
        proxy.cut()
        await before.lost.wait()
        gate.open()
        assert (await picture).attempt == 1
    await asyncio.to_thread(service.wait, "settled", count=2, job_id="joined")
    assert len([record for record in service.records if record.get("event") == "started"]) == 1


async def test_a_durable_reply_queue_survives_a_blip(impostor, proxy):
    """A reply that was sent while the client was away is there when it is back; nobody asks twice."""
    async with ImageClient(proxy.url) as client, under_way(client, "x") as picture:
        request = await impostor.request()
        proxy.refuse()
        proxy.dialled.clear()
        proxy.cut()
        await proxy.dialled.wait()
        await impostor.draw(request)
        proxy.accept()
        assert (await picture).seed == 1
        assert impostor.nothing_more()
        assert client.duplicates == 0


async def test_a_durable_reply_queue_that_is_gone_afterwards_is_asked_over(
    impostor, proxy, broker
):
    """Expired or deleted while the client was away, with the reply in it: asked again."""
    async with ImageClient(proxy.url) as client, under_way(client, "x") as picture:
        first = await impostor.request()
        proxy.refuse()
        proxy.cut()
        await asyncio.to_thread(_delete_queue, broker, first.reply_to)
        proxy.accept()
        second = await impostor.request()
        assert (first.message_id, first.body) == (second.message_id, second.body)
        assert first.reply_to != second.reply_to
        await impostor.draw(second)
        assert (await picture).seed == 1


async def test_a_reply_queue_that_may_not_be_read_any_more_is_asked_over(
    impostor, proxy, broker
):
    """Whatever the broker has against the old name: a new one is taken, and nobody waits on it."""
    async with (
        ImageClient(proxy.url) as client,
        under_way(client, "x") as picture,
        await aio_pika.connect(broker.url()) as other,
    ):
        first = await impostor.request()
        proxy.refuse()
        proxy.cut()
        await asyncio.to_thread(_delete_queue, broker, first.reply_to)
        await (await other.channel()).declare_queue(first.reply_to, exclusive=True)
        proxy.accept()
        second = await impostor.request()
        assert first.reply_to != second.reply_to
        await impostor.draw(second)
        assert (await picture).seed == 1


async def test_a_reply_queue_that_is_deleted_under_us_is_asked_over(impostor, client, broker):
    """The broker cancels the consumer, and that is enough to know."""
    async with under_way(client, "x") as picture:
        first = await impostor.request()
        await asyncio.to_thread(_delete_queue, broker, first.reply_to)
        second = await impostor.request()
        assert first.reply_to != second.reply_to
        await impostor.draw(second)
        assert (await picture).seed == 1


def _delete_queue(broker, name):
    broker.api(f"queues/{VHOST}/{quote(name, safe='')}", "DELETE")


async def test_asked_again_it_waits_where_the_queue_is_full(impostor, proxy, channel, broker):
    """An earlier copy may be in hand: Busy would be wrong, so it is asked until there is room."""
    async with ImageClient(proxy.url) as client, under_way(client, "x") as picture:
        first = await impostor.request()
        await impostor.stop()
        await fill(channel)
        await asyncio.to_thread(_delete_queue, broker, first.reply_to)
        await proxy.wait("broker", BASIC_NACK)
        broker.purge()
        await impostor.start()
        second = await impostor.request()
        assert second.message_id == first.message_id
        await impostor.draw(second)
        assert (await picture).seed == 1


async def test_every_one_that_waits_asks_again(impostor, proxy):
    """Twenty callers, one lost connection: each gets its own picture."""
    async with ImageClient(proxy.url, reply_queue="exclusive") as client:
        callers = [
            asyncio.get_running_loop().create_task(client.generate("x", job_id=f"job-{number}"))
            for number in range(20)
        ]
        for _ in callers:
            await impostor.request()
        proxy.cut()
        for _ in callers:
            request = await impostor.request()
            await impostor.draw(request, int(request.message_id.removeprefix("job-")))
        images = await asyncio.gather(*callers)
        assert [image.seed for image in images] == list(range(20))


async def test_a_crowd_does_not_cost_the_connection(impostor, client):
    """Far more callers at once than channels: all are answered, over the one connection."""
    session = await client._link.session(10)
    callers = [asyncio.get_running_loop().create_task(client.generate("x")) for _ in range(200)]
    for _ in callers:
        await impostor.draw(await impostor.request())
    assert len(await asyncio.gather(*callers)) == 200
    assert await client._link.session() is session
    assert len(session._idle) <= session_module.CHANNELS_MOST


# ---------------------------------------------------------------- the broker's word is missing


async def test_a_silent_broker_is_left_for_a_new_connection(impostor, proxy, monkeypatch):
    """A black hole is noticed by its silence, and what waits goes on over another connection."""
    monkeypatch.setattr(session_module, "SILENCE_S", 1.0)
    async with (
        ImageClient(proxy.url, reply_queue="exclusive") as client,
        under_way(client, "x") as picture,
    ):
        await impostor.request()
        before = (await client._link.session()).ended
        proxy.passing.clear()
        assert "silent" in await before
        proxy.passing.set()
        await impostor.draw(await impostor.request())
        assert (await picture).seed == 1


async def test_a_lost_confirm_does_not_turn_into_busy(impostor, proxy, channel, broker):
    """The link went before the broker's word: the request may be in the queue, full or not."""
    await impostor.stop()
    proxy.hold("broker", BASIC_ACK)
    async with ImageClient(proxy.url) as client, under_way(client, "x") as picture:
        await proxy.held.wait()
        await fill(channel)
        session = await client._link.session()
        proxy.holding = None
        session.lose("cut by the test")
        await proxy.wait("broker", BASIC_NACK)
        await impostor.start()
        requests = [await impostor.request() for _ in range(20)]
        asked = [request for request in requests if request.reply_to]
        await impostor.draw(asked[0])
        assert (await picture).seed == 1


@pytest.fixture
def rabbitmqctl(broker):
    """Run rabbitmqctl on the broker of the tests."""

    def run(*words):
        subprocess.run(
            [RABBITMQCTL, *words],
            env=broker.node._environment(),
            check=True,
            capture_output=True,
            timeout=60,
        )

    return run


@pytest.fixture
def alarm(rabbitmqctl):
    """Raise the broker's memory alarm; it is over at the end at the latest."""

    def alarm(*, on):
        rabbitmqctl("set_vm_memory_high_watermark", "0.0000001" if on else "0.4")

    yield alarm
    alarm(on=False)


async def test_a_memory_alarm_is_waited_through(impostor, proxy, alarm, monkeypatch):
    """Blocked by the broker, a request is sent once and not again with each missing word."""
    monkeypatch.setattr(pending_module, "CONFIRM_TIMEOUT_S", 0.05)
    async with ImageClient(proxy.url) as client:
        await client._link.session(10)
        await asyncio.to_thread(alarm, on=True)
        async with under_way(client, "first") as first, under_way(client, "second") as second:
            await asyncio.to_thread(alarm, on=False)
            for _ in range(2):
                await impostor.draw(await impostor.request())
            assert [(await first).seed, (await second).seed] == [1, 1]
        assert impostor.nothing_more()
    assert len(proxy.of("client", BASIC_PUBLISH)) == 2


async def test_a_deadline_holds_in_a_memory_alarm(impostor, broker, alarm, monkeypatch):
    """A broker that takes nothing does not hold its callers beyond their deadline, nor a close."""
    monkeypatch.setattr(job_module, "GRACE_S", 0.1)
    async with ImageClient(broker.url()) as client:
        await client._link.session(10)
        await asyncio.to_thread(alarm, on=True)
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await client.generate("x", deadline_s=0.5, on_progress=print)


async def test_close_is_prompt_with_a_black_hole(impostor, proxy, monkeypatch):
    """Megabytes unsent to a broker that reads nothing: who waits is told, and close returns."""
    for module in (link_module, dial_module, session_module):
        monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.2)
    client = ImageClient(proxy.url)
    async with under_way(client, "first") as picture:  # whose channel is at hand afterwards
        await impostor.draw(await impostor.request())
        await picture
    proxy.passing.clear()
    async with under_way(client, "x" * (32 << 20)) as picture:
        await proxy.swallowing.wait()
        async with asyncio.timeout(30):
            await client.close()
        with pytest.raises(Unavailable, match="The client was closed"):
            await picture


async def test_a_deadline_holds_with_a_black_hole(impostor, proxy, monkeypatch):
    """After DeadlineExceeded nothing hangs on the dead link."""
    monkeypatch.setattr(job_module, "GRACE_S", 0.1)
    async with ImageClient(proxy.url) as client:
        await client._link.session(10)
        proxy.passing.clear()
        async with asyncio.timeout(30):
            with pytest.raises(DeadlineExceeded):
                await client.generate("x", deadline_s=0.5, on_progress=print)


@pytest.fixture
def unbound(broker):
    """For a test: the exchange has no queue behind it."""
    path = f"bindings/{VHOST}/e/imagegen/q/imagegen.requests"
    broker.api(f"{path}/imagegen.requests", "DELETE")
    yield
    broker.api(path, "POST", {"routing_key": "imagegen.requests"})


async def test_a_broker_without_the_queue_is_told(unbound, client):
    """Nothing takes the request: Unavailable at once, not silence until the deadline."""
    with pytest.raises(Unavailable, match="no queue behind the exchange imagegen") as caught:
        await client.generate("x")
    assert caught.value.retryable


async def test_a_vhost_without_the_service_is_told(broker):
    """There is not even the exchange: Unavailable with the broker's reason."""
    broker.api("vhosts/bare", "PUT")
    every = dict.fromkeys(("configure", "write", "read"), ".*")
    broker.api("permissions/bare/chat-backend", "PUT", every)
    try:
        async with ImageClient(broker.url().removesuffix(VHOST) + "bare") as client:
            with pytest.raises(Unavailable, match="not set up on this vhost") as caught:
                await client.generate("x")
            assert caught.value.retryable
    finally:
        broker.api("vhosts/bare", "DELETE")


async def test_a_user_of_another_name_is_told_by_the_broker(impostor, client, monkeypatch):
    """The broker verifies who asks; what it refuses is Unavailable, and not worth a retry."""
    monkeypatch.setattr(client, "_user", "somebody-else")
    with pytest.raises(Unavailable, match="user_id property") as caught:
        await client.generate("x", retry=Retry())
    assert not caught.value.retryable


# ---------------------------------------------------------------- strange replies


async def test_second_and_stray_replies_are_counted(impostor, client):
    """Dropped, and seen: a bench tells by it how often a reply came twice."""
    async with under_way(client, "x") as picture:
        request = await impostor.request()
        for _ in range(3):
            await impostor.draw(request)
        await impostor.draw(request, correlation_id="nobody's")
        assert (await picture).seed == 1
    async with under_way(client, "x") as picture:  # its reply comes after all of them
        await impostor.draw(await impostor.request())
        await picture
    assert (client.duplicates, client.strays) == (2, 1)
