"""The client and jobs that nobody waits for: sent, left, listened to."""

import asyncio
import json

import aio_pika
import pytest

from imagegen_client import (
    Busy,
    DeadlineExceeded,
    ImageClient,
    InvalidRequest,
    Progress,
    Retry,
    Unavailable,
)
from imagegen_client import job as job_module
from imagegen_client import pending as pending_module
from tests.house import House
from tests.impostor import fill, in_the_services_place
from tests.proxy import BASIC_ACK, BASIC_PUBLISH, FrameProxy
from tests.test_client import under_way

BASIC_NACK = (60, 120)
SMALL = {"width": 256, "height": 256}


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    house = House(broker, tmp_path_factory.mktemp("house"))
    yield house
    house.stop()


@pytest.fixture
def service(house):
    """A service whose pipeline draws at once."""
    return house.service()


@pytest.fixture
async def impostor(broker, house):
    await asyncio.to_thread(house.stop)
    async with in_the_services_place(broker) as impostor:
        yield impostor


@pytest.fixture
async def client(broker):
    async with ImageClient(broker.url()) as client:
        await client._link.session(10)
        yield client


@pytest.fixture
async def proxy(broker):
    async with FrameProxy(broker.url()) as proxy:
        yield proxy


# ---------------------------------------------------------------- fire and poll


async def test_what_is_sent_is_a_request_that_nobody_waits_for(impostor, client):
    """Stored by the broker, named, in time, and with nowhere to answer to."""
    job_id = await client.send("x", seed=7, width=None, deadline_s=60)
    request = await impostor.request()
    assert (request.message_id, request.reply_to, request.correlation_id) == (
        job_id,
        None,
        None,
    )
    assert json.loads(request.body) == {"prompt": "x", "seed": 7}
    assert request.type == "imagegen.request.v1"
    assert request.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert 59 < request.expiration <= 60
    assert request.user_id == "chat-backend"


async def test_what_is_sent_is_drawn_and_kept(service, client):
    """Asked for again under its id it comes at once, from the store."""
    job_id = await client.send("x", job_id="sent", **SMALL)
    assert job_id == "sent"
    await asyncio.to_thread(service.wait, "settled", job_id="sent")
    assert (await client.generate("x", job_id="sent", **SMALL)).replayed


async def test_what_is_sent_to_a_full_queue_is_refused(impostor, client, channel, monkeypatch):
    """Busy: certainly not taken. With a retry it is tried as often as that says."""
    monkeypatch.setattr(Busy, "retry_after_s", 0.0)
    await impostor.stop()
    await fill(channel)
    for retry in (None, Retry(attempts=2, first_s=0.0, most_s=0.0)):
        with pytest.raises(Busy) as caught:
            await client.send("x", job_id="full", deadline_s=30, retry=retry)
        assert (caught.value.job_id, caught.value.perhaps_taken) == ("full", False)


async def test_what_is_sent_to_a_full_queue_is_tried_again(
    impostor, proxy, channel, broker, monkeypatch
):
    """With a retry it goes into the queue once there is room, under the same id."""
    monkeypatch.setattr(Busy, "retry_after_s", 0.01)
    await impostor.stop()
    await fill(channel)
    retry = Retry(attempts=1000, first_s=0.01, most_s=0.01)
    async with ImageClient(proxy.url) as client, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(client.send("x", job_id="patient", retry=retry))
        await proxy.wait("broker", BASIC_NACK, count=2)
        await asyncio.to_thread(broker.purge)
        assert await sending == "patient"
        await impostor.start()
        assert (await impostor.request()).message_id == "patient"


async def test_what_cannot_be_sent_was_not_taken(unused_tcp_port):
    """No broker: Unavailable, and nothing can be in a queue."""
    async with ImageClient(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x") as client:
        with pytest.raises(Unavailable, match="could not be reached") as caught:
            await client.send("x", deadline_s=0.2)
        assert (caught.value.code, caught.value.perhaps_taken) == ("unavailable", False)


async def test_without_the_brokers_word_it_is_sent_again(impostor, proxy, monkeypatch):
    """The same id and body, until the word comes; the service knows them for one job."""
    monkeypatch.setattr(pending_module, "CONFIRM_TIMEOUT_S", 0.1)
    monkeypatch.setattr(pending_module, "AGAIN_FIRST_S", 0.01)
    proxy.drop("broker", BASIC_ACK)
    async with ImageClient(proxy.url) as client, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(client.send("x", job_id="doubtful"))
        await proxy.wait("client", BASIC_PUBLISH, count=2)
        proxy.dropping = None
        assert await sending == "doubtful"
        first, second = await impostor.request(), await impostor.request()
        assert (first.message_id, first.body) == (second.message_id, second.body)


async def test_what_was_sent_without_the_brokers_word_is_perhaps_taken(impostor, proxy):
    """The word does not come in time: Unavailable, which says that it may be drawn all the same."""
    proxy.drop("broker", BASIC_ACK)
    async with ImageClient(proxy.url) as client:
        with pytest.raises(Unavailable, match="word on it did not come within 1 s") as caught:
            await client.send("x", job_id="doubtful", deadline_s=1)
    assert (caught.value.job_id, caught.value.perhaps_taken) == ("doubtful", True)
    assert (await impostor.request()).message_id == "doubtful"


async def test_what_was_held_back_was_not_taken(impostor, proxy):
    """The link stalls before the request is on it: certainly not taken."""
    channel_open_ok = (20, 11)
    async with ImageClient(proxy.url) as client:
        await client._link.session(10)
        proxy.drop("broker", channel_open_ok)
        with pytest.raises(Unavailable) as caught:
            await client.send("x", deadline_s=0.5)
    assert not caught.value.perhaps_taken
    assert proxy.of("client", BASIC_PUBLISH) == []


async def test_an_id_that_no_job_can_have_is_not_sent(client):
    """No message can carry it."""
    with pytest.raises(InvalidRequest, match="1 to 128 letters"):
        await client.send("x", job_id="a.b")


# ---------------------------------------------------------------- is a copy out there


async def test_a_deadline_tells_that_it_may_be_drawn(impostor, client, monkeypatch):
    """Nobody answered: the request may still be in the queue."""
    monkeypatch.setattr(job_module, "GRACE_S", 0.1)
    await impostor.stop()
    with pytest.raises(DeadlineExceeded) as caught:
        await client.generate("x", deadline_s=0.5)
    assert caught.value.perhaps_taken


async def test_a_refusal_tells_that_it_is_not_drawn(impostor, client, channel):
    """The queue was full: no copy is anywhere."""
    await impostor.stop()
    await fill(channel)
    with pytest.raises(Busy) as caught:
        await client.generate("x")
    assert not caught.value.perhaps_taken


async def test_the_services_word_leaves_no_doubt(impostor, client):
    """An error that the service answered with is the job's end."""
    async with under_way(client, "x") as picture:
        await impostor.fail(await impostor.request(), "deadline_exceeded")
        with pytest.raises(DeadlineExceeded) as caught:
            await picture
        assert not caught.value.perhaps_taken


async def test_a_closed_client_tells_what_it_left_behind(impostor, broker):
    """Who still waited hears that the request may be drawn."""
    client = ImageClient(broker.url())
    async with under_way(client, "x") as picture:
        await impostor.request()
        await client.close()
        with pytest.raises(Unavailable) as caught:
            await picture
        assert caught.value.perhaps_taken


# ---------------------------------------------------------------- left


async def test_a_job_knows_its_body(impostor, client):
    """What is published, byte by byte."""
    async with client.submit("x", seed=7) as job:
        request = await impostor.request()
        assert request.body == job.body
        assert json.loads(job.body) == {"prompt": "x", "seed": 7}
        job.leave()


async def test_a_job_that_is_left_to_itself_is_not_called_off(impostor, client):
    """`leave` ends the wait and nothing else; who waits beside us is told."""
    async with client.submit("x", job_id="kept") as job:
        await impostor.request()
        job.leave()
        job.leave()
        with pytest.raises(Unavailable, match="goes on") as caught:
            await job.result()
        assert caught.value.perhaps_taken
    await client.cancel("other")
    assert json.loads((await impostor.called_off()).body)["job_id"] == "other"


# ---------------------------------------------------------------- the news of all


async def test_news_of_all_jobs_comes_once(impostor, client):
    """Beside the news of one job: each listener is told each piece once, of all or of its own."""
    heard, other = asyncio.Queue(), asyncio.Queue()
    await client.follow(heard.put_nowait)
    await client.follow(other.put_nowait)
    async with client.submit("x", job_id="mine") as job:
        request = await impostor.request()
        await client._link.news.follow("mine", heard.put_nowait)
        for name, step in (("mine", 1), ("theirs", 1), ("mine", 2)):
            await impostor.tell(name, "step", step)
        told = [
            Progress("mine", "step", 1, 8),
            Progress("theirs", "step", 1, 8),
            Progress("mine", "step", 2, 8),
        ]
        for queue in (heard, other):
            assert [await queue.get() for _ in told] == told
            assert queue.empty()
        assert [await anext(job), await anext(job)] == [told[0], told[2]]
        await client._link.news.unfollow("mine", heard.put_nowait)
        await impostor.draw(request)
        await job.result()


async def test_who_stops_listening_hears_no_more(impostor, client):
    """`unfollow` undoes one `follow`; the others hear on."""
    gone, here = asyncio.Queue(), asyncio.Queue()
    await client.follow(gone.put_nowait)
    await client.follow(here.put_nowait)
    await client.unfollow(gone.put_nowait)
    await impostor.tell("any", "running")
    assert await here.get() == Progress("any", "running", 0, 8)
    assert gone.empty()
    await client.unfollow(here.put_nowait)
    assert client._link.news._bound == set()
    with pytest.raises(ValueError, match="not in list"):
        await client.unfollow(here.put_nowait)


async def test_the_news_of_all_comes_over_reconnects(impostor, proxy):
    """Whoever listens need not know that the connection was another."""
    heard = asyncio.Queue()
    async with ImageClient(proxy.url) as client:
        await client.follow(heard.put_nowait)
        before = await client._link.session(10)
        proxy.cut()
        await before.ended
        await client._link.session(10)
        await impostor.tell("any", "running")
        assert (await heard.get()).job_id == "any"


async def test_a_listener_that_fails_costs_no_other_its_news(impostor, client, caplog):
    """What it raises is logged."""
    heard = asyncio.Queue()

    def broken(_):
        raise LookupError("mine")

    await client.follow(broken)
    await client.follow(heard.put_nowait)
    for step in (1, 2):
        await impostor.tell("any", "step", step)
        assert (await heard.get()).step == step
    assert "A listener to the news failed." in caplog.text
