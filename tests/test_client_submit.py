"""A job that is submitted: its news, its end, who leaves it, and in whose name it is asked for."""

import asyncio
import json
from urllib.parse import quote

import pytest

from imagegen_client import (
    Cancelled,
    GenerationFailed,
    ImageClient,
    InvalidRequest,
    Progress,
)
from imagegen_client import client as client_module
from tests.conftest import VHOST
from tests.impostor import in_the_services_place
from tests.proxy import BASIC_ACK, FrameProxy
from tests.test_client import under_way


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


# ---------------------------------------------------------------- a job, step by step


async def test_a_job_is_watched_to_its_end(impostor, client):
    """The iteration gives each piece of news and ends with the job; the result is there then."""
    async with client.submit("x", job_id="watched") as job:
        request = await impostor.request()
        assert (job.id, job.done) == ("watched", False)
        for step in (1, 2):
            await impostor.tell("watched", "step", step)
        heard = [await anext(job), await anext(job)]
        await impostor.draw(request)
        heard += [progress async for progress in job]
        assert heard == [Progress("watched", "step", step, 8) for step in (1, 2)]
        assert job.done
        assert (await job.result()).seed == 1
        assert await job.result() is await job.result()
        assert [progress async for progress in job] == []


async def test_a_job_that_is_not_entered_is_no_wait(client):
    """Nothing was asked for: RuntimeError at once, for the result and for the news."""
    job = client.submit("x")
    with pytest.raises(RuntimeError, match="Enter the job first"):
        await job.result()
    with pytest.raises(RuntimeError, match="Enter the job first"):
        await anext(job)


async def test_an_error_ends_the_iteration_too(impostor, client):
    """No news at all and an error: the loop ends, and the result raises."""
    async with client.submit("x") as job:
        await impostor.fail(await impostor.request(), "poison")
        assert [progress async for progress in job] == []
        with pytest.raises(GenerationFailed, match="No"):
            await job.result()
    assert client._desk.jobs == set()


async def test_a_job_that_is_left_is_called_off(impostor, client):
    """Leaving the block before the end sends the word; the job's own end is Cancelled."""
    async with client.submit("x", job_id="left") as job:
        await impostor.request()
    assert json.loads((await impostor.called_off()).body) == {"op": "cancel", "job_id": "left"}
    with pytest.raises(Cancelled):
        await job.result()
    assert (client._answers._expected, client._link.news._listeners) == ({}, {})


async def test_what_was_never_sent_is_not_called_off(impostor, client):
    """A cancel would be remembered against the next try of the same id."""
    async with client.submit("x", job_id="unsent"):
        pass
    await client.cancel("other")
    assert json.loads((await impostor.called_off()).body)["job_id"] == "other"


async def test_a_cancelled_task_calls_off_what_is_not_confirmed_yet(
    impostor, proxy, monkeypatch
):
    """The request is on its way and the broker's word is not: the job is called off all the same."""
    monkeypatch.setattr(client_module, "CALL_OFF_TIMEOUT_S", 0.1)
    proxy.drop("broker", BASIC_ACK)
    async with (
        ImageClient(proxy.url) as client,
        under_way(client, "x", job_id="unconfirmed") as picture,
    ):
        await proxy.wait("broker", BASIC_ACK)
        picture.cancel()
        with pytest.raises(asyncio.CancelledError):
            await picture
        told = await impostor.called_off()
        assert json.loads(told.body)["job_id"] == "unconfirmed"


async def test_what_a_listener_raises_reaches_the_caller(impostor, client):
    """An error in `on_progress` ends the wait and calls the job off; nothing is swallowed."""

    def on_progress(_):
        raise LookupError("mine")

    async with under_way(client, "x", job_id="heard", on_progress=on_progress) as picture:
        await impostor.request()
        await impostor.tell("heard", "running")
        with pytest.raises(LookupError, match="mine"):
            await picture
    assert json.loads((await impostor.called_off()).body)["job_id"] == "heard"


async def test_two_may_ask_for_one_job(impostor, client):
    """The same id asked for twice at once: each caller gets an answer, and each the news."""
    heard = asyncio.Queue()
    options = {"job_id": "shared", "on_progress": heard.put_nowait}
    async with (
        under_way(client, "x", **options) as one,
        under_way(client, "x", **options) as two,
    ):
        requests = [await impostor.request() for _ in range(2)]
        await impostor.tell("shared", "step", 1)
        assert await heard.get() == await heard.get()
        for request in requests:
            await impostor.draw(request)
        assert [(await one).seed, (await two).seed] == [1, 1]


@pytest.mark.parametrize("job_id", ["#", "a.b", "x" * 129, "ä"])
async def test_an_id_that_no_job_can_have_is_refused_here(client, job_id):
    """It would bind to other people's news, or break the message."""
    with pytest.raises(InvalidRequest, match="1 to 128 letters"):
        await client.generate("x", job_id=job_id)


# ---------------------------------------------------------------- who asks


async def test_requests_and_cancels_name_their_user(impostor, client):
    """The broker has verified it: only that user may call the job off."""
    async with client.submit("x", job_id="mine"):
        request = await impostor.request()
    assert request.user_id == "chat-backend"
    assert (await impostor.called_off()).user_id == "chat-backend"


async def test_the_user_may_be_left_out(impostor, broker):
    """Where a proxy or a certificate logs in as another than the URL says."""
    async with ImageClient(broker.url(), tell_user=False) as client:
        async with client.submit("x"):
            request = await impostor.request()
        assert request.user_id is None
        assert (await impostor.called_off()).user_id is None


@pytest.fixture
def stranger(broker):
    """A user whose name must be percent-encoded in a URL; returns name and URL."""
    name, password = "zoë @ work", "p/ss:w@rd"
    rights = broker.api(f"permissions/{VHOST}/chat-backend")
    path = quote(name, safe="")
    broker.api(f"users/{path}", "PUT", {"password": password, "tags": ""})
    broker.api(
        f"permissions/{VHOST}/{path}",
        "PUT",
        {right: rights[right] for right in ("configure", "write", "read")},
    )
    host = broker.url().split("@")[1]
    yield name, f"amqp://{path}:{quote(password, safe='')}@{host}"
    broker.api(f"users/{path}", "DELETE")


async def test_a_percent_encoded_name_is_told_decoded(impostor, stranger):
    """The broker compares it with the user of the connection."""
    name, url = stranger
    async with ImageClient(url) as client, under_way(client, "x") as picture:
        request = await impostor.request()
        assert request.user_id == name
        await impostor.draw(request)
        assert (await picture).seed == 1


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("amqp://host/vhost", "guest"),
        ("amqp://a%40b:c@host/vhost", "a@b"),
        ("amqps://me:x@host/v?auth=EXTERNAL", None),
    ],
)
def test_the_user_is_that_of_the_connection(url, user):
    """Guest where the URL names none; unknown where a certificate tells it."""
    assert ImageClient(url)._link.user == user


@pytest.mark.parametrize(
    "url", ["http://host/vhost", "amqp://host:port/vhost", "", "amqp:///x", []]
)
def test_what_is_no_broker_url_is_refused_at_once(url):
    """Not after the time of a connection attempt."""
    with pytest.raises(ValueError, match=r"URL|port"):
        ImageClient(url)
