"""The client's retry: what is asked again by choice, under the same id, within the deadline."""

import asyncio
from types import SimpleNamespace

import pytest

from imagegen_client import (
    Busy,
    GenerationFailed,
    ImageClient,
    Retry,
    Unavailable,
)
from imagegen_client import pending as pending_module
from imagegen_client import session as session_module
from imagegen_client.errors import error_from_reply
from schemas import ERRORS
from tests.impostor import fill, in_the_services_place
from tests.proxy import BASIC_NACK, FrameProxy
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
    assert Retry(attempts=10_000, most_s=6.0).wait_s(failed, 2000, 1.0) == 6.0
    busy = Busy("Full.")
    assert retry.wait_s(busy, 1, 0.0) == busy.retry_after_s
    assert retry.wait_s(busy, 1, 0.5) == busy.retry_after_s + 1.0


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_s": -1}, {"most_s": 0.5}])
def test_a_retry_that_makes_no_sense_is_refused(wrong):
    """A policy is wrong where it is written, not where it is used."""
    with pytest.raises(ValueError, match="at least 1 attempt"):
        Retry(**wrong)


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
