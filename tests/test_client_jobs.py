"""The client and jobs that nobody waits for: sent, left, listened to."""

import asyncio
import contextlib
import json

import aio_pika
import pytest

from imagegen_client import (
    Busy,
    DeadlineExceeded,
    GenerationFailed,
    ImageClient,
    ImageError,
    InvalidRequest,
    JobStatus,
    NotFound,
    Progress,
    Retry,
    Unavailable,
)
from imagegen_client import broadcast as broadcast_module
from imagegen_client import client as client_module
from imagegen_client import job as job_module
from imagegen_client import news as news_module
from imagegen_client import pending as pending_module
from imagegen_client import watch as watch_module
from imagegen_client.status import merged
from tests.house import House
from tests.impostor import fill, in_the_services_place
from tests.proxy import BASIC_ACK, BASIC_NACK, BASIC_PUBLISH, FrameProxy
from tests.test_client import under_way

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


async def test_a_session_does_not_wait_for_the_news_of_hundreds_of_jobs(broker, monkeypatch):
    """On a cluster a binding takes its time; what nobody follows any more is not bound then."""
    bound, go = asyncio.Queue(), asyncio.Event()

    async def bind(_queue, _exchange, topic):
        bound.put_nowait(topic)
        await go.wait()

    monkeypatch.setattr(aio_pika.queue.Queue, "bind", bind)
    monkeypatch.setattr(news_module, "BIND_TIMEOUT_S", 0.1)
    client = ImageClient(broker.url())
    for number in range(200):
        await client._link.news.follow(f"job-{number}", print)
    async with client:
        await client.ready()
        await client.unfollow(print, "job-198")
        go.set()
        async with asyncio.timeout(30):
            topics = {await bound.get() for _ in range(199)}
        assert topics == {f"job.*.job-{number}" for number in range(200) if number != 198}


async def test_a_watch_that_is_left_at_once_leaves_nothing_behind(broker, monkeypatch):
    """Its caller is gone before the broker has answered."""
    began = asyncio.Event()

    async def bind(*_):
        began.set()
        await asyncio.get_running_loop().create_future()

    async with ImageClient(broker.url()) as client:
        await client.ready()
        monkeypatch.setattr(aio_pika.queue.Queue, "bind", bind)
        monkeypatch.setattr(news_module, "BIND_TIMEOUT_S", 1e3)
        watching = asyncio.get_running_loop().create_task(anext(client.watch("left")))
        await began.wait()
        monkeypatch.setattr(news_module, "BIND_TIMEOUT_S", 0.01)
        watching.cancel()
        await asyncio.wait({watching})
        assert client._link.news._listeners == {}


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


# ---------------------------------------------------------------- where a job stands


async def test_a_status_is_told_from_the_start_to_the_end(service, client, gate):
    """Running with its steps while it is drawn, then succeeded with its facts."""
    async with under_way(client, f"wait={gate.path}", job_id="asked", seed=7, **SMALL) as drawn:
        await asyncio.to_thread(gate.reached)
        running = await client.status("asked")
        assert (running.status, running.steps, running.ended) == ("running", 8, False)
        gate.open()
        await drawn
    succeeded = await client.status("asked")
    assert (succeeded.status, succeeded.ended, succeeded.seed) == ("succeeded", True, 7)
    assert (succeeded.width, succeeded.height, succeeded.format) == (256, 256, "png")
    assert (succeeded.prompt, succeeded.worker) == (f"wait={gate.path}", "tester")
    assert (succeeded.attempt, succeeded.error) == (1, None)


async def test_the_status_of_a_failure_has_its_error(service, client):
    """The same code and advice as the reply had."""
    with pytest.raises(GenerationFailed):
        await client.generate("oom", job_id="failed", **SMALL)
    status = await client.status("failed")
    assert status.status == "failed"
    assert (status.error["code"], status.error["retryable"]) == ("out_of_memory", True)


async def test_a_job_that_nobody_knows_is_told(impostor, client):
    """Silence is the answer to an unknown id: NotFound after the time that was given."""
    with pytest.raises(NotFound, match="No service knows the job nobodys") as caught:
        await client.status("nobodys", timeout_s=0.2)
    assert (caught.value.code, caught.value.job_id) == ("not_found", "nobodys")
    assert json.loads((await impostor.called_off()).body) == {
        "op": "status",
        "job_id": "nobodys",
    }


async def test_the_first_who_knows_is_believed(impostor, client):
    """What cannot be read is passed over; later answers are no duplicate replies."""
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.status("known", timeout_s=30))
        question = await impostor.called_off()
        for body in (b"no json", b"[]", b'{"job_id": "known"}', b'{"status": "running"}'):
            await impostor.answer(question, body, "imagegen.status.v1")
        for state in ("running", "succeeded", "failed"):
            await impostor.say(question, "known", state, new_field=1)
    assert (await asking).status == "running"
    async with under_way(client, "x") as picture:  # its reply comes after all of them
        await impostor.draw(await impostor.request())
        await picture
    assert (client.duplicates, client.strays) == (0, 0)


async def test_a_lost_connection_is_no_answer(impostor, proxy):
    """The answer may have gone with it: that is not "nobody knows"."""
    async with ImageClient(proxy.url) as client, asyncio.TaskGroup() as tasks:
        await client._link.session(10)
        asking = tasks.create_task(_caught(client.status("known", timeout_s=30)))
        await impostor.called_off()
        proxy.cut()
        error = await asking
    assert isinstance(error, Unavailable)
    assert "The connection was lost meanwhile" in error.message


async def _caught(call):
    with pytest.raises(ImageError) as caught:
        await call
    return caught.value


async def test_a_question_without_a_broker_is_told(unused_tcp_port, monkeypatch):
    """Unavailable, for every question."""
    monkeypatch.setattr(broadcast_module, "CONNECT_TIMEOUT_S", 0.1)
    async with ImageClient(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x") as client:
        for call in (client.status("x"), client.jobs(), client.cancel("x")):
            with pytest.raises(Unavailable, match="could not be reached"):
                await call


async def test_what_cannot_be_asked_is_refused_here(client):
    """No service would answer it."""
    for call in (client.status("a.b"), client.cancel("#"), client.jobs(0), client.jobs(201)):
        with pytest.raises(InvalidRequest):
            await call
    with pytest.raises(InvalidRequest):
        await anext(client.watch("a b"))


# ---------------------------------------------------------------- which jobs there are


async def test_the_newest_jobs_come_first(house, client):
    """As many as are asked for, over all states."""
    await asyncio.to_thread(house.restart)
    for number in range(3):
        await client.generate("x", job_id=f"listed-{number}", **SMALL)
    listed = await client.jobs(limit=2)
    assert [status.job_id for status in listed] == ["listed-2", "listed-1"]
    assert {status.status for status in listed} == {"succeeded"}


async def test_the_lists_of_all_services_are_one(impostor, client):
    """Each job once, as it is known best: an end before a start, a start before the queue."""
    lists = (
        (("a", "queued", 1), ("b", "running", 2), ("c", "failed", 3)),
        (("a", "running", 1), ("b", "queued", 2), ("d", "queued", 4)),
    )
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.jobs(limit=3, timeout_s=30))
        question = await impostor.called_off()
        assert json.loads(question.body) == {"op": "jobs", "limit": 3}
        for one in lists:
            await impostor.say_list(question, one)
    told = [(status.job_id, status.status) for status in await asking]
    assert told == [("d", "queued"), ("c", "failed"), ("b", "running")]


async def test_a_list_that_nobody_tells_is_no_empty_list(impostor, client):
    """Every service has a list: silence means that none is there."""
    with pytest.raises(Unavailable, match=r"No service answered within 0\.2 s"):
        await client.jobs(timeout_s=0.2)


def _known(state, **more):
    return JobStatus("x", state, "2026-11-22T10:00:00.000Z", **more)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (_known("queued"), _known("running")),
        (_known("running", step=7), _known("expired")),
        (_known("running", step=2), _known("running", step=3)),
        (_known("running", step=7), _known("running", attempt=2)),
        (
            _known("failed", ended_at="2026-11-22T10:00:01.000Z", attempt=3),
            _known("succeeded", ended_at="2026-11-22T10:00:02.000Z", attempt=1),
        ),
    ],
    ids=range(5),
)
def test_the_better_known_state_wins(less, more):
    """In whichever order the two are told."""
    assert merged([[less], [more]], 5) == merged([[more], [less]], 5) == [more]


# ---------------------------------------------------------------- watched


async def test_a_job_is_watched_by_whoever_knows_its_id(service, client, broker, gate):
    """Each change until the end, over another connection than the one that asked for it."""
    async with (
        ImageClient(broker.url()) as other,
        under_way(client, f"wait={gate.path}", job_id="seen", **SMALL) as picture,
    ):
        await asyncio.to_thread(gate.reached)
        seen = []
        async with contextlib.aclosing(other.watch("seen")) as changes:
            async for status in changes:
                seen.append(status)
                if len(seen) == 1:
                    gate.open()
        await picture
    assert seen[0].status == "running"
    assert (seen[-1].status, seen[-1].worker) == ("succeeded", "tester")
    assert {status.status for status in seen[:-1]} == {"running"}
    assert other._link.news._listeners == {}


async def test_a_watch_lives_through_silence(impostor, client, monkeypatch):
    """The service is on its way back, news are lost: it is asked until it answers."""
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(watch_module, "POLL_S", 0.1)
    async with (
        contextlib.aclosing(client.watch("seen")) as changes,
        asyncio.TaskGroup() as tasks,
    ):
        for state in ("queued", "running", "cancelled"):
            change = tasks.create_task(anext(changes))
            question = await impostor.called_off()
            if state != "queued":
                question = await impostor.called_off()  # the one before was not answered
            await impostor.say(question, "seen", state)
            assert (await change).status == state
        with pytest.raises(StopAsyncIteration):
            await anext(changes)


async def test_a_watch_of_what_nobody_knows_ends(impostor, client, monkeypatch):
    """At first at once; later after so many questions that nobody answered."""
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(watch_module, "POLL_S", 0.01)
    monkeypatch.setattr(watch_module, "MISSED_MOST", 2)
    with pytest.raises(NotFound):
        await anext(client.watch("seen"))
    await impostor.called_off()
    async with (
        contextlib.aclosing(client.watch("seen")) as changes,
        asyncio.TaskGroup() as tasks,
    ):
        change = tasks.create_task(anext(changes))
        await impostor.say(await impostor.called_off(), "seen", "running")
        await change
        with pytest.raises(NotFound):
            await anext(changes)
