"""The client in trouble: whatever is lost on the way, its caller gets one answer, never silence."""

import asyncio
import json
import subprocess
from types import SimpleNamespace
from urllib.parse import quote

import aio_pika
import pytest

from imagegen_client import (
    Busy,
    Cancelled,
    DeadlineExceeded,
    GenerationFailed,
    ImageClient,
    InvalidRequest,
    Progress,
    Retry,
    Unavailable,
)
from imagegen_client import client as client_module
from imagegen_client import dial as dial_module
from imagegen_client import job as job_module
from imagegen_client import link as link_module
from imagegen_client import pending as pending_module
from imagegen_client import session as session_module
from imagegen_client.errors import error_from_reply
from schemas import ERRORS
from tests.conftest import VHOST
from tests.impostor import fill, in_the_services_place
from tests.proxy import BASIC_ACK, BASIC_PUBLISH, FrameProxy
from tests.test_client import under_way

BASIC_NACK = (60, 120)
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


# ---------------------------------------------------------------- asked again by choice


async def test_busy_is_tried_again_under_the_same_id(
    impostor, proxy, channel, broker, monkeypatch
):
    """With a retry a full queue is met by waiting as long as it says, and asking once more."""
    monkeypatch.setattr(Busy, "retry_after_s", 0.01)
    await impostor.stop()
    await fill(channel)
    retry = Retry(attempts=1000, first_s=0.01, most_s=0.01)
    async with (
        ImageClient(proxy.url) as client,
        under_way(client, "x", job_id="patient", retry=retry) as picture,
    ):
        await proxy.wait("broker", BASIC_NACK, count=2)
        broker.purge()
        await impostor.start()
        request = await impostor.request()
        assert request.message_id == "patient"
        await impostor.draw(request)
        assert (await picture).seed == 1


async def test_a_failure_that_may_pass_is_tried_again_under_the_same_id(impostor, client):
    """A retryable error is no end; the last one is what the caller gets."""
    retry = Retry(attempts=2, first_s=0.0, most_s=0.0)
    for number, ends_well in enumerate((True, False)):
        async with under_way(client, "x", job_id=f"again-{number}", retry=retry) as picture:
            first = await impostor.request()
            await impostor.fail(first, "out_of_memory")
            second = await impostor.request()
            assert (first.message_id, first.body) == (second.message_id, second.body)
            if ends_well:
                await impostor.draw(second)
                assert (await picture).seed == 1
            else:
                await impostor.fail(second, "gpu_died")
                with pytest.raises(GenerationFailed) as caught:
                    await picture
                assert (caught.value.code, caught.value.job_id) == ("gpu_died", "again-1")


async def test_a_late_answer_to_an_earlier_attempt_is_not_taken_for_this_one(impostor, client):
    """Each attempt has a correlation id of its own."""
    retry = Retry(attempts=2, first_s=0.0, most_s=0.0)
    async with under_way(client, "x", retry=retry) as picture:
        first = await impostor.request()
        await impostor.fail(first, "gpu_died")
        second = await impostor.request()
        await impostor.fail(first, "gpu_died")
        await impostor.draw(second)
        assert (await picture).seed == 1
    assert client.duplicates == 1


async def test_the_deadline_is_that_of_all_attempts(impostor, channel, client):
    """A wait that would end after the deadline is not begun: the caller hears at once."""
    await impostor.stop()
    await fill(channel)
    with pytest.raises(Busy):
        await client.generate("x", deadline_s=4, retry=Retry(attempts=100))


MAY_PASS = {"busy", "unavailable", "out_of_memory", "gpu_timeout", "gpu_died", "nan_output"} | {
    "internal",
    "not_ready",
    "request_timeout",
}


@pytest.mark.parametrize("code", ERRORS, ids=str)
def test_only_what_may_pass_is_tried_again(code):
    """Never a wrong request, a cancelled or poisonous job, nor one whose time is up."""
    error = {"code": code.value, "message": "No.", "retryable": ERRORS[code].retryable}
    told = error_from_reply({"error": error})
    assert (Retry().wait_s(told, 1, 0.5) is not None) is (code.value in MAY_PASS)


def test_a_retry_waits_longer_each_time_and_ends():
    """Full jitter under a doubling limit; Busy waits at least what it says."""
    retry = Retry(attempts=5, first_s=2.0, most_s=6.0)
    failed = error_from_reply({"error": {"code": "internal", "retryable": True}})
    assert [retry.wait_s(failed, attempt, 1.0) for attempt in range(1, 6)] == [2, 4, 6, 6, None]
    assert retry.wait_s(failed, 1, 0.0) == 0.0
    busy = Busy("Full.")
    assert retry.wait_s(busy, 1, 0.0) == busy.retry_after_s
    assert retry.wait_s(busy, 1, 0.5) == busy.retry_after_s + 1.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_s": -1}, {"most_s": 0.5}])
def test_a_retry_that_makes_no_sense_is_refused(wrong):
    """A policy is wrong where it is written, not where it is used."""
    with pytest.raises(ValueError, match="at least 1 attempt"):
        Retry(**wrong)


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


async def test_unavailable_is_not_told_while_a_copy_may_be_in_hand(monkeypatch):
    """The first try may be drawn this moment: its repeat is tried on, whatever the broker says."""
    monkeypatch.setattr(pending_module, "AGAIN_FIRST_S", 0.0)
    words = [session_module.Told.UNKNOWN, Unavailable("No."), Unavailable("No.")]
    asked_on = asyncio.Event()

    class Session:
        reply_to = SimpleNamespace(name="q")

        async def publish(self, attempt, _):
            if not words:
                asked_on.set()
                await asyncio.Event().wait()
            word = words.pop(0)
            attempt.perhaps_taken = not isinstance(word, Unavailable)
            if isinstance(word, Unavailable):
                raise word
            return word

    async def session(_):
        return Session()

    request = SimpleNamespace(remaining_s=100.0, message=lambda *_: None)
    pending = pending_module.Pending(SimpleNamespace(session=session), request, "c")
    asking = asyncio.get_running_loop().create_task(pending.keep_asking())
    reached = asyncio.get_running_loop().create_task(asked_on.wait())
    await asyncio.wait({asking, reached}, return_when=asyncio.FIRST_COMPLETED)
    assert not asking.done()
    assert pending.perhaps_taken
    asking.cancel()
    await asyncio.wait({asking})


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
    "url", ["http://host/vhost", "amqp://host:port/vhost", "", "amqp:///x"]
)
def test_what_is_no_broker_url_is_refused_at_once(url):
    """Not after the time of a connection attempt."""
    with pytest.raises(ValueError, match=r"URL|port"):
        ImageClient(url)


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
