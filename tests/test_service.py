"""The service as its callers meet it: a real broker, a real process, the real queue."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import signal

import aio_pika
import pytest
from PIL import Image

from schemas import GenerationError, GenerationResult
from tests.rpc import Requester


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def test_a_request_is_answered_with_a_picture(service, requester):
    """A request gets one reply with its correlation id: a picture and the facts of it."""
    await requester.publish(
        {"prompt": "A sunset over mountains", "width": 512, "height": 512, "seed": 42},
        correlation_id="mine",
        message_id="job-1",
    )
    reply = await requester.reply()
    result = GenerationResult.model_validate_json(reply.body)
    image = base64.b64decode(result.image_base64)
    assert (reply.correlation_id, reply.type) == ("mine", "imagegen.result.v1")
    assert (reply.content_type, reply.message_id != "job-1") == ("application/json", True)
    assert (result.job_id, result.seed, result.forwards) == ("job-1", 42, 8)
    assert (result.width, result.height, result.attempt) == (512, 512, 1)
    assert result.sha256 == hashlib.sha256(image).hexdigest()
    assert Image.open(io.BytesIO(image)).size == (512, 512)


async def test_raw_bytes_on_request(service, requester):
    """With `x-imagegen-accept: image/png` the body is the image and the facts are headers."""
    await requester.publish(
        {"prompt": "x", "width": 512, "height": 512},
        message_id="raw-1",
        headers={"x-imagegen-accept": "image/png"},
    )
    reply = await requester.reply()
    assert Image.open(io.BytesIO(reply.body)).format == "PNG"
    assert reply.content_type == "image/png"
    assert reply.headers["x-imagegen-job-id"] == "raw-1"
    assert json.loads(reply.headers["x-imagegen-timings"])["queued"] >= 0


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
async def test_each_format_is_what_it_says(service, requester, output_format):
    """The format asked for is the format of the bytes, and is told."""
    reply = await requester.ask(
        {"prompt": "x", "width": 256, "height": 256, "output_format": output_format}
    )
    image = Image.open(io.BytesIO(base64.b64decode(reply["image_base64"])))
    assert (reply["format"], image.format) == (output_format, output_format.upper())


BAD = {
    "empty prompt": ({"prompt": ""}, {}, "invalid_request", "prompt"),
    "blank prompt": ({"prompt": " \n"}, {}, "invalid_request", "prompt"),
    "no prompt": ({}, {}, "invalid_request", "prompt"),
    "prompt too long": ({"prompt": "x" * 4001}, {}, "invalid_request", "prompt"),
    "control character": ({"prompt": "a\x07b"}, {}, "invalid_request", "prompt"),
    "lone surrogate": (b'{"prompt": "\\ud800"}', {}, "invalid_request", "prompt"),
    "prompt a number": ({"prompt": 7}, {}, "invalid_request", "prompt"),
    "too small": ({"prompt": "x", "width": 255}, {}, "invalid_request", "width"),
    "too large": ({"prompt": "x", "height": 1537}, {}, "invalid_request", "height"),
    "size a string": ({"prompt": "x", "width": "512"}, {}, "invalid_request", "width"),
    "size a float": ({"prompt": "x", "width": 512.5}, {}, "invalid_request", "width"),
    "size true": ({"prompt": "x", "width": True}, {}, "invalid_request", "width"),
    "negative seed": ({"prompt": "x", "seed": -1}, {}, "invalid_request", "seed"),
    "huge seed": ({"prompt": "x", "seed": 2**53}, {}, "invalid_request", "seed"),
    "fractional seed": ({"prompt": "x", "seed": 0.5}, {}, "invalid_request", "seed"),
    "guidance": ({"prompt": "x", "guidance_scale": 5}, {}, "invalid_request", "guidance_scale"),
    "steps": (
        {"prompt": "x", "num_inference_steps": 1},
        {},
        "invalid_request",
        "num_inference_steps",
    ),
    "format": ({"prompt": "x", "output_format": "gif"}, {}, "invalid_request", "output_format"),
    "unknown field": ({"prompt": "x", "promt": "y"}, {}, "invalid_request", "promt"),
    "no effect": (
        {"prompt": "x", "negative_prompt": "y"},
        {},
        "invalid_request",
        "negative_prompt",
    ),
    "broken JSON": (b'{"prompt": ', {}, "invalid_request", None),
    "NaN": (b'{"prompt": "x", "guidance_scale": NaN}', {}, "invalid_request", None),
    "twice": (b'{"prompt": "x", "prompt": "y"}', {}, "invalid_request", None),
    "no object": (b"[1]", {}, "invalid_request", None),
    "nested": (b"[" * 60_000, {}, "invalid_request", None),
    "huge number": (b'{"seed": 1' + b"0" * 5000 + b"}", {}, "invalid_request", None),
    "bad UTF-8": (b'{"prompt": "\xff"}', {}, "invalid_request", None),
    "empty body": (b"", {}, "invalid_request", None),
    "64 KiB": (b" " * 65_537, {}, "request_too_large", None),
    "version": (
        {"prompt": "x"},
        {"type": "imagegen.request.v9"},
        "unsupported_version",
        "type",
    ),
    "content type": (
        {"prompt": "x"},
        {"content_type": "text/plain"},
        "invalid_request",
        "content_type",
    ),
    "content encoding": (
        {"prompt": "x"},
        {"content_encoding": "gzip"},
        "invalid_request",
        "content_encoding",
    ),
    "message id": ({"prompt": "x"}, {"message_id": "a b"}, "invalid_request", "message_id"),
    "accept": (
        {"prompt": "x"},
        {"headers": {"x-imagegen-accept": "text/html"}},
        "invalid_request",
        "x-imagegen-accept",
    ),
    "too many tokens": ({"prompt": "long"}, {}, "invalid_request", "prompt"),
}


async def test_every_kind_of_bad_input_is_answered_and_the_consumer_goes_on(
    service, requester, broker
):
    """Each wrong request gets its code, the field and a sentence; the next good one its picture."""
    restarts = service.health()["gpu"]["restarts"]
    for name, (body, properties, code, field) in BAD.items():
        correlation_id = f"bad {name}"
        await requester.publish(body, correlation_id=correlation_id, **properties)
        reply = await requester.reply()
        assert reply.correlation_id == correlation_id
        assert reply.type == "imagegen.error.v1"
        error = GenerationError.model_validate_json(reply.body).error
        assert (name, error.code.value, error.retryable) == (name, code, False)
        assert error.message, name
        assert field is None or field in [problem.field for problem in error.details], name
    assert (await requester.ask({"prompt": "good", "width": 256, "height": 256}))["success"]
    assert service.health()["gpu"]["restarts"] == restarts
    async with _parking(broker) as parking:
        assert parking.declaration_result.message_count == 0


async def test_unknown_fields_get_a_suggestion(service, requester):
    """A misspelt field is named together with the field that was meant."""
    reply = await requester.ask({"prompt": "x", "steps": 9, "heigth": 512})
    suggestions = {item["field"]: item["suggestion"] for item in reply["error"]["details"]}
    assert suggestions == {"steps": "use num_inference_steps", "heigth": "did you mean height?"}


@pytest.mark.parametrize(
    "reply_to", ["imagegen.requests", "imagegen.parking", "imagegen.expired"]
)
async def test_a_reply_to_of_ours_is_parked_and_never_drawn(
    service, requester, channel, broker, reply_to
):
    """A request that wants its answer in one of our own queues goes to the parking queue."""
    await requester.publish({"prompt": "x"}, reply_to=reply_to)
    service.wait("parked", reason="reply_to_not_allowed")
    service.wait("settled", outcome="unanswerable")
    assert await _parked_reason(broker) == "reply_to_not_allowed"


async def test_what_cannot_be_read_and_has_no_reply_to_is_parked(service, requester, broker):
    """Where there is nobody to tell, a copy with the reason lies in the parking queue."""
    await requester.publish(b"no json", reply_to=None, correlation_id=None)
    service.wait("settled", outcome="unanswerable")
    assert await _parked_reason(broker) == "invalid_request"


@contextlib.asynccontextmanager
async def _parking(broker):
    """The queue of parked copies, as an administrator sees it."""
    connection = await aio_pika.connect(broker.url("admin"))
    async with connection:
        channel = await connection.channel()
        yield await channel.declare_queue("imagegen.parking", passive=True)


async def _parked_reason(broker):
    async with _parking(broker) as parking:
        message = await parking.get(no_ack=True)
        return message.headers["x-imagegen-reason"]


async def test_a_request_without_reply_to_is_drawn(service, requester):
    """Fire and poll: no reply_to is legal, the job is drawn and stored."""
    await requester.publish(
        {"prompt": "x"}, reply_to=None, correlation_id=None, message_id="unaddressed"
    )
    assert service.wait("settled", job_id="unaddressed")["outcome"] == "succeeded"


async def test_the_same_id_is_answered_from_the_store(service, requester):
    """A job id that was finished is replayed, marked so, with the same bytes."""
    body = {"prompt": "x", "width": 256, "height": 256}
    first = await requester.ask(body, message_id="again")
    second = await requester.ask(body, message_id="again")
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["image_base64"] == second["image_base64"]


async def test_the_same_id_with_another_body_is_refused(service, requester):
    """An id names one request for ever."""
    await requester.ask({"prompt": "x"}, message_id="twice")
    reply = await requester.ask({"prompt": "y"}, message_id="twice")
    assert reply["error"]["code"] == "idempotency_conflict"


async def test_without_a_message_id_equal_requests_are_two_jobs(service, requester):
    """A derived id is looked up on a redelivery only: equal requests are drawn twice."""
    body = {"prompt": "x", "width": 256, "height": 256}
    for _ in range(2):
        reply = await requester.ask(body, message_id=None, correlation_id="same")
        assert reply["replayed"] is False


async def test_no_seed_gives_the_seed_of_the_job(service, requester):
    """The seed that was derived from the job id is told and inside the documented range."""
    reply = await requester.ask({"prompt": "x"}, message_id="seedless")
    assert 0 <= reply["seed"] < 2**53


async def test_a_job_in_hand_is_cancelled_within_a_step(service, requester, channel, gate):
    """A cancel stops a running job at its next step; the caller is told."""
    await requester.publish({"prompt": f"wait={gate.path}"}, message_id="called-off")
    await asyncio.to_thread(gate.reached)
    await _cancel(channel, "called-off")
    service.wait("cancel_heard", job_id="called-off")
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert (reply["job_id"], reply["error"]["code"]) == ("called-off", "cancelled")


async def test_a_cancel_that_comes_first_is_remembered(service, requester, channel):
    """A job that was called off before it was seen dies on arrival."""
    await _cancel(channel, "not-yet")
    service.wait("cancel_heard", job_id="not-yet")
    reply = await requester.ask({"prompt": "x"}, message_id="not-yet")
    assert reply["error"]["code"] == "cancelled"


async def _cancel(channel, job_id):
    exchange = await channel.get_exchange("imagegen.control", ensure=False)
    for body in (b"noise", json.dumps({"op": "cancel", "job_id": job_id}).encode()):
        await exchange.publish(aio_pika.Message(body), "")


@pytest.mark.parametrize(
    ("word", "code"), [("boom", "internal"), ("oom", "out_of_memory"), ("nan", "nan_output")]
)
async def test_what_the_gpu_cannot_draw_is_told_and_may_be_retried(
    service, requester, word, code
):
    """An error of the child is typed, and the child goes on."""
    restarts = service.health()["gpu"]["restarts"]
    reply = await requester.ask({"prompt": word})
    assert (reply["error"]["code"], reply["error"]["retryable"]) == (code, True)
    assert (await requester.ask({"prompt": "good", "width": 256, "height": 256}))["success"]
    assert service.health()["gpu"]["restarts"] == restarts


async def test_kill_of_the_gpu_child_in_a_picture(service, requester, gate):
    """The child is killed in a picture: the caller still gets its picture."""
    await requester.publish({"prompt": f"wait={gate.path}"})
    await asyncio.to_thread(gate.reached)
    before = service.health()["gpu"]
    os.kill(before["pid"], signal.SIGKILL)
    service.wait("gpu_lost")
    gate.open()
    await asyncio.to_thread(gate.reached)  # by the child that took its place
    gate.open()
    reply = json.loads((await requester.reply()).body)
    assert reply["success"]
    assert service.health()["gpu"]["restarts"] == before["restarts"] + 1


async def test_a_replacement_that_cannot_load_does_not_end_the_service(
    service, house, requester
):
    """The model is refused by a fresh child: the service stays, and draws once it loads again."""
    faults = house.folder / "faults"
    faults.write_text("refuse_loading")
    os.kill(service.health()["gpu"]["pid"], signal.SIGKILL)
    await asyncio.to_thread(service.wait, "gpu", count=2, state="dead")
    assert service.process.poll() is None
    faults.unlink()
    assert (await requester.ask({"prompt": "x", "width": 256, "height": 256}))["success"]


async def test_a_job_that_kills_the_child_three_times_is_poison(
    service, requester, broker, tmp_path
):
    """Two deaths are told and may be retried; the third ends it: answered, parked, never again."""
    prompt = f"die=9 lives={tmp_path / 'lives'}"
    reply = await requester.ask({"prompt": prompt}, message_id="poison")
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("gpu_died", True)
    assert (tmp_path / "lives").read_text() == "xx"
    reply = await requester.ask({"prompt": prompt}, message_id="poison")
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("poison", False)
    assert (tmp_path / "lives").read_text() == "xxx"
    assert await _parked_reason(broker) == "poison"
    again = await requester.ask({"prompt": prompt}, message_id="poison")
    assert again["error"]["code"] == "poison"
    assert (tmp_path / "lives").read_text() == "xxx"


async def test_progress_is_told_on_the_events_exchange(service, requester, channel):
    """Whoever binds to `job.#` hears running, each step and the end; never on reply_to."""
    heard = asyncio.Queue()
    queue = await channel.declare_queue("", exclusive=True)
    await queue.bind("imagegen.events", "job.*.told")
    await queue.consume(heard.put, no_ack=True)
    await requester.ask({"prompt": "x"}, message_id="told")
    states = []
    async with asyncio.timeout(30):
        while "succeeded" not in states:
            states.append(json.loads((await heard.get()).body)["state"])
    assert states == ["running", *["step"] * 8, "succeeded"]
    assert requester.replies.empty()


async def test_a_hostile_header_is_not_copied(service, requester, channel):
    """A `CC` header of the request does not make the reply go to a second queue."""
    victim = await channel.declare_queue("", exclusive=True)
    await requester.publish(
        {"prompt": "x", "width": 256, "height": 256},
        headers={"CC": [victim.name], "traceparent": "00-a-b-01", "x-other": "1"},
    )
    reply = await requester.reply()
    assert reply.headers == {"traceparent": "00-a-b-01"}
    assert await victim.get(no_ack=True, fail=False) is None
