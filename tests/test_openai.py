"""The images API of OpenAI as its official client meets it, and as chat front ends ask."""

import asyncio
import base64
import contextlib
import http.client
import io
import itertools
import json
import os
import re
import socket

import aio_pika
import openai
import pytest
from PIL import Image

from consumer.errors import Fault
from consumer.http import openai_errors
from consumer.http.openai import PIECE_BYTES, _rendered
from consumer.http.openai_asked import _job_id, _picture
from consumer.http.problems import ProblemError
from schemas import ERRORS, ErrorCode, GenerationRequest, Problem
from schemas.base import JOB_ID_PATTERN
from schemas.openai import (
    MAX_PICTURES,
    SIZE_PATTERN,
    ImagesRequest,
    ImagesResponse,
    OpenAIError,
    status_of,
)
from schemas.reply import GenerationResult, ResultFacts
from schemas.request import MAX_SEED
from schemas.sizes import MAX_SIDE, MIN_SIDE
from tests import asking
from tests.asking import PATIENCE_S, SMALL, held, known, name
from tests.impostor import fill
from tests.test_contract import RESULT

gate = asking.gate
house, service, caller = asking.house, asking.service, asking.caller

TOKEN = "a-token-of-this-test"
MODEL = "maker/painter"
SIDES = "256x256"


def speaking(served, **changes):
    """The official client, as it is used, but for retries: they are no part of most promises."""
    wanted = {"api_key": "none", "max_retries": 0, "timeout": PATIENCE_S, **changes}
    line = openai.DefaultAsyncHttpxClient(verify=asking._NO_TLS, trust_env=False)
    base_url = f"http://127.0.0.1:{served.port}/v1"
    return openai.AsyncOpenAI(base_url=base_url, http_client=line, **wanted)


@pytest.fixture
async def client(service):
    async with speaking(service) as client:
        yield client


def draw(client, prompt="An otter", **wanted):
    return client.images.generate(**{"prompt": prompt, "size": SIDES, **wanted})


def job_ids(key, prompt, n):
    """The ids of the jobs that `draw` asks for under a key."""
    wanted = ImagesRequest(prompt=prompt, size=SIDES, n=n)
    return [_job_id(key, number, _picture(wanted, number)) for number in range(n)]


def opened(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture.b64_json)))


def told(error):
    """What an exception of the client says, which has to be an error of OpenAI's shape."""
    return OpenAIError.model_validate({"error": error.body}, strict=False).error


# ---------------------------------------------------------------- pictures


async def test_three_are_three(client, caller):
    """Asked for three, it gives three of one size, each of the next seed, and each a job."""
    answer = await draw(client, n=3, extra_body={"seed": 7})
    assert [picture.seed for picture in answer.data] == [7, 8, 9]
    assert [opened(picture).size for picture in answer.data] == [(256, 256)] * 3
    assert len({picture.b64_json for picture in answer.data}) == 3
    assert (answer.size, answer.output_format, answer.background) == (SIDES, "png", "opaque")
    for picture in answer.data:
        assert (await caller.status(picture.job_id))["status"] == "succeeded"


async def test_what_is_not_true_is_not_told(client):
    """No tokens were counted, no quality was chosen, no prompt was changed, no URL is served."""
    answer = await draw(client, quality="high", response_format="url", user="somebody")
    assert (answer.usage, answer.quality) == (None, None)
    assert (answer.data[0].revised_prompt, answer.data[0].url) == (None, None)
    assert answer.data[0].b64_json


async def test_it_is_the_picture_that_the_job_api_draws(client, caller):
    """The same wish gives the same bytes here and there."""
    here = await draw(client, extra_body={"seed": 42})
    there = await caller.generate({"prompt": "An otter", "seed": 42, **SMALL})
    assert here.data[0].b64_json == there.json()["image_base64"]


async def test_a_key_is_the_job_of_the_first_picture(client, caller):
    """Repeated under its Idempotency-Key a request is answered with the pictures of before."""
    headers = {"Idempotency-Key": name()}
    first, again = [await draw(client, n=2, extra_headers=headers) for _ in range(2)]
    assert first.data[0].job_id == headers["Idempotency-Key"]
    assert again.data == first.data
    assert first.data[1].b64_json != first.data[0].b64_json


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
async def test_the_format_is_the_one_asked_for(client, output_format):
    """Each format that the service has can be had here."""
    answer = await draw(client, output_format=output_format)
    assert answer.output_format == output_format
    assert opened(answer.data[0]).format == output_format.upper()


SIZES = {
    "listed": ("1280x720", "1280x720"),
    "rounded": ("300x500", "320x512"),
    "automatic": ("auto", "1024x1024"),
    "empty, as Open WebUI may send it": ("", "1024x1024"),
    "not given": (openai.omit, "1024x1024"),
}


@pytest.mark.parametrize("case", SIZES)
async def test_the_size_is_the_one_drawn(client, case):
    """What is drawn is told: as asked, rounded, or the service's own where it may choose."""
    asked, drawn = SIZES[case]
    answer = await draw(client, size=asked)
    assert answer.size == drawn
    assert opened(answer.data[0]).size == tuple(map(int, drawn.split("x")))


# ---------------------------------------------------------------- the forms of front ends

FORMS = {
    "Open WebUI": (
        {"prompt": "x", "model": "dall-e-2", "n": 1, "size": SIDES}
        | {"response_format": "b64_json"},
        {"X-OpenWebUI-User-Name": "Ann", "X-OpenWebUI-User-Email": "ann@example.org"},
    ),
    "Open WebUI, a GPT model and parameters of its own": (
        {"prompt": "x", "model": "gpt-image-1.5", "n": 1, "size": "auto"}
        | {"seed": 7, "quality": "low", "moderation": "low"},
        {},
    ),
    "LibreChat": (
        {"prompt": "x", "model": "gpt-image-1", "n": 1, "background": "auto"}
        | {"output_format": "png", "quality": "auto", "size": "auto"},
        {"x-stainless-lang": "js", "x-stainless-retry-count": "0"},
    ),
    "LibreChat, WebP": (
        {"prompt": "x", "model": "gpt-image-1", "n": 1, "background": "opaque"}
        | {"output_format": "webp", "output_compression": 100}
        | {"quality": "high", "size": "1024x1024"},
        {},
    ),
}


@pytest.mark.parametrize("form", FORMS)
async def test_front_ends_are_answered_as_they_ask(caller, form):
    """The bodies and headers that Open WebUI and LibreChat send give what they read."""
    body, headers = FORMS[form]
    answer = await caller.http.post(
        "/v1/images/generations",
        json=body,
        headers={"Authorization": "Bearer none", **headers},
    )
    assert answer.status_code == 200, answer.text
    read = ImagesResponse.model_validate_json(answer.content)
    assert [opened(picture).format for picture in read.data] == [read.output_format.upper()]


def test_an_empty_key_is_no_hindrance(service):
    """Open WebUI sends `Bearer ` where no key was entered; without a token nobody needs one."""
    line = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    with contextlib.closing(line):
        line.request("GET", "/v1/models", headers={"Authorization": "Bearer "})
        answer = line.getresponse()
        assert (answer.status, json.loads(answer.read())["object"]) == (200, "list")


# ---------------------------------------------------------------- what is wrong with a request

REFUSED = {
    "size": {"size": "1792x1024"},
    "prompt": {"prompt": " "},
    "n": {"n": MAX_PICTURES + 1},
    "background": {"background": "transparent"},
    "output_format": {"output_format": "gif"},
    "response_format": {"response_format": "file"},
    "stream": {"stream": True},
    "partial_images": {"partial_images": 2},
    "seed": {"extra_body": {"seed": -1}},
    "Idempotency-Key": {"extra_headers": {"Idempotency-Key": "no key"}},
    "X-Deadline-Seconds": {"extra_headers": {"X-Deadline-Seconds": "soon"}},
}


@pytest.mark.parametrize("param", REFUSED)
async def test_what_cannot_be_had_is_refused_by_name(client, caller, param):
    """The client raises its error of bad requests, which names the field; nothing is asked for."""
    before = (await caller.get("/jobs?limit=1")).json()["jobs"]
    with pytest.raises(openai.BadRequestError) as refused:
        await draw(client, **REFUSED[param])
    error = told(refused.value)
    assert (error.param, error.code, error.type) == (
        param,
        "invalid_request",
        "invalid_request_error",
    )
    assert error.message.startswith(f"{param}: ")
    assert (await caller.get("/jobs?limit=1")).json()["jobs"] == before


BROKEN = {
    "no JSON": (b"{", {}, 400, "invalid_request"),
    "no object": (b"[]", {}, 400, "invalid_request"),
    "a form": (b"prompt=x", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    "too large": (b" " * 65_537, {}, 413, "request_too_large"),
    "from a page elsewhere": (b"{}", {"Origin": "http://evil.example"}, 403, "forbidden"),
    "to another name": (b"{}", {"Host": "evil.example"}, 403, "forbidden"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_the_guards_of_the_job_api_stand_here_too(caller, case):
    """What they keep out is told in OpenAI's shape."""
    body, headers, status, code = BROKEN[case]
    headers = {"Content-Type": "application/json", **headers}
    answer = await caller.http.post("/v1/images/generations", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert OpenAIError.model_validate_json(answer.content).error.code == code


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/images/edits", 404, "not_found"),
        ("POST", "/v1/chat/completions", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/images/generations", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_told_in_their_shape(caller, method, path, status, code):
    """A page that there is not, or not so, is an error that OpenAI's clients can read."""
    answer = await caller.http.request(method, path)
    assert answer.status_code == status
    assert OpenAIError.model_validate_json(answer.content).error.code == code


async def test_what_may_not_be_sent_again_is_not(client, caller):
    """The client would send a conflict again; told not to, it does not."""
    headers = {"Idempotency-Key": name()}
    await draw(client, extra_headers=headers)
    labels = {"method": "POST", "path": "/v1/images/generations", "status": "409"}
    before = await caller.counted("imagegen_http_requests_total", **labels)
    with pytest.raises(openai.ConflictError) as conflict:
        await draw(client.with_options(max_retries=2), "other", extra_headers=headers)
    assert told(conflict.value).code == "idempotency_conflict"
    assert await caller.counted("imagegen_http_requests_total", **labels) == before + 1


# ---------------------------------------------------------------- trouble


async def test_a_full_queue_is_a_rate_limit(client, caller, channel, gate):
    """Beyond the queue the client raises its RateLimitError, which says when to come back."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    with pytest.raises(openai.RateLimitError) as busy:
        await draw(client)
    assert (told(busy.value).code, told(busy.value).type) == ("busy", "rate_limit_error")
    assert int(busy.value.response.headers["retry-after"]) >= 1
    assert busy.value.response.headers["x-should-retry"] == "true"
    gate.open()
    await caller.ended(first)


async def make_room(broker):
    """Take one request out of the queue."""
    async with await aio_pika.connect(broker.url("admin")) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("imagegen.requests", ensure=False)
        await (await queue.get()).ack()


async def test_where_there_is_room_for_some_none_is_drawn(
    client, caller, channel, broker, gate, tmp_path
):
    """Of three pictures one has a place: it is called off, as nobody would get it."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    await make_room(broker)
    key, starts = name(), tmp_path / "starts"
    prompt = f"note={starts}"
    with pytest.raises(openai.RateLimitError):
        await draw(client, prompt, n=3, extra_headers={"Idempotency-Key": key})
    pages = [await caller.get(f"/job/{job_id}") for job_id in job_ids(key, prompt, 3)]
    assert {page.json()["status"] for page in pages} == {404, "cancelled"}
    gate.open()
    await caller.ended(first)
    await caller.ended(await caller.submitted())  # behind all that waited
    assert not starts.exists()


async def test_who_was_told_to_come_back_may_under_its_key(
    client, caller, channel, broker, gate
):
    """What was called off with a picture that had no place does not stand in the way of the next try."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    await make_room(broker)
    headers = {"Idempotency-Key": name()}
    with pytest.raises(openai.RateLimitError):
        await draw(client, n=3, extra_headers=headers)
    gate.open()
    await caller.ended(first)
    await caller.ended(await caller.submitted())  # behind all that waited
    again = await draw(client, n=3, extra_headers=headers)
    assert len({picture.b64_json for picture in again.data}) == 3
    assert (await draw(client, n=3, extra_headers=headers)).data == again.data


async def test_a_wrong_request_does_not_spoil_a_key(client):
    """What was begun of a request that had another's key is in the way of neither."""
    headers = {"Idempotency-Key": name()}
    one = await draw(client, extra_headers=headers)
    with pytest.raises(openai.ConflictError):
        await draw(client, "Another", n=3, extra_headers=headers)
    three = await draw(client, n=3, extra_headers=headers)
    assert (three.data[0], len(three.data)) == (one.data[0], 3)


async def test_who_hangs_up_calls_all_off(client, caller, service, gate):
    """A caller who goes away has the picture that is drawn stopped, and the others not begun."""
    key, prompt = name(), held(gate)["prompt"]
    asked = draw(client, prompt, n=2, extra_headers={"Idempotency-Key": key})
    waiting = asyncio.get_running_loop().create_task(asked)
    await asyncio.to_thread(gate.reached)
    ids = job_ids(key, prompt, 2)
    for job_id in ids:
        await known(caller, job_id)
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.to_thread(service.wait, "stop_requested", cause="cancelled")
    gate.open()
    for job_id in ids:
        assert (await caller.ended(job_id))["status"] == "cancelled"


async def test_a_deadline_is_kept(client, caller, gate):
    """A caller who said how long it wants the picture is told when that has passed."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    with pytest.raises(openai.InternalServerError) as late:
        await draw(client, extra_headers={"X-Deadline-Seconds": "0.3"})
    assert late.value.status_code == 504
    assert told(late.value).code == "deadline_exceeded"
    gate.open()
    await caller.ended(first)


async def test_what_fails_is_told_as_it_is(client):
    """A picture that the GPU has too little memory for is a 503 with that code."""
    with pytest.raises(openai.APIStatusError) as failed:
        await draw(client, "oom")
    assert (failed.value.status_code, told(failed.value).code) == (503, "out_of_memory")
    assert "retry-after" in failed.value.response.headers


# ---------------------------------------------------------------- the token, the models, no broker


@pytest.fixture(scope="module")
def nowhere():
    """The URL of a broker that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    return f"amqp://nobody:none@127.0.0.1:{port}/imagegen"


@pytest.fixture
async def guarded(house, nowhere):
    """A client of a service with a token, whose HTTP face finds no broker."""
    service = house.service(API_TOKEN=TOKEN, MODEL=MODEL, HTTP_AMQP_URL=nowhere)
    async with speaking(service, api_key=TOKEN) as client:
        yield client


async def test_the_token_is_the_api_key(guarded):
    """The client shows its api_key as any caller shows the token; another one is its typed error."""
    assert (await guarded.models.list()).data
    with pytest.raises(openai.AuthenticationError) as refused:
        await guarded.with_options(api_key="another").models.list()
    assert told(refused.value).code == "unauthorized"


async def test_the_model_is_listed_by_its_name(guarded):
    """There is one model, whose name may have a slash; others are not found."""
    (listed,) = (await guarded.models.list()).data
    assert (listed.id, listed.owned_by) == (MODEL, "imagegen")
    assert await guarded.models.retrieve(MODEL) == listed
    with pytest.raises(openai.NotFoundError) as missing:
        await guarded.models.retrieve("dall-e-3")
    assert told(missing.value).code == "not_found"


async def test_without_a_broker_it_is_unavailable(guarded):
    """While the broker is away the client raises an APIStatusError with 503, and when to come back."""
    with pytest.raises(openai.APIStatusError) as away:
        await draw(guarded)
    assert (away.value.status_code, told(away.value).code) == (503, "unavailable")
    assert int(away.value.response.headers["retry-after"]) >= 1


# ---------------------------------------------------------------- pure


FACTS = ResultFacts.model_validate(
    GenerationResult.model_validate_json(RESULT).model_dump(exclude={"success", "image_base64"})
)


async def test_pictures_are_given_piece_by_piece():
    """However large they are, the answer is never in memory as a whole; and it is the same."""
    sizes = [1, 2, 3, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 2]
    images = [os.urandom(size) for size in sizes]
    pieces = [piece async for piece in _rendered([(FACTS, image) for image in images], 7)]
    answer = ImagesResponse.model_validate_json(b"".join(pieces))
    assert [base64.b64decode(picture.b64_json) for picture in answer.data] == images
    assert max(map(len, pieces)) == PIECE_BYTES * 4 // 3


async def test_others_have_their_turn_between_pieces():
    """Whoever asks for large pictures does not keep the service from everybody else."""
    turns = itertools.count()

    async def other():
        while True:
            next(turns)
            await asyncio.sleep(0)

    beside = asyncio.get_running_loop().create_task(other())
    pieces = [piece async for piece in _rendered([(FACTS, bytes(5 * PIECE_BYTES))], 7)]
    beside.cancel()
    assert next(turns) >= len(pieces) - 2 == 5


def test_each_turn_of_a_picture_is_another_job():
    """The id of a picture that is drawn anew is no other picture's."""
    picture = GenerationRequest(prompt="x")
    turns = itertools.product(range(MAX_PICTURES), [picture], range(3))
    assert len({_job_id("key", *turn) for turn in turns}) == 3 * MAX_PICTURES


def test_the_pattern_of_a_size_is_the_range_of_its_sides():
    """Whoever checks by the document refuses what we refuse, and nothing else."""
    taken = [n for n in range(2 * MAX_SIDE) if re.search(SIZE_PATTERN, f"{n}x{n}")]
    assert taken == list(range(MIN_SIDE, MAX_SIDE + 1))
    for odd in ("256", "256x", "256x256x256", "0256x256", "256X256", " auto"):
        assert not re.search(SIZE_PATTERN, odd)


def test_seeds_begin_again_after_the_largest():
    """The picture after the one with the largest seed has seed 0, as any seed that fits is taken."""
    wanted = ImagesRequest(prompt="x", seed=MAX_SEED, n=2)
    assert [_picture(wanted, number).seed for number in range(2)] == [MAX_SEED, 0]


@pytest.mark.parametrize("key", ["sunset-1", "x" * 128])
def test_pictures_have_jobs_of_their_own(key):
    """Each has an id that can be one, the same each time, and another than any other's."""
    ids = job_ids(key, "x", MAX_PICTURES)
    assert ids[0] == key
    assert ids == job_ids(key, "x", MAX_PICTURES)
    others = [*job_ids("other", "x", MAX_PICTURES), *job_ids(key, "y", MAX_PICTURES)[1:]]
    assert len({*ids, *others}) == 3 * MAX_PICTURES - 1
    assert all(re.fullmatch(JOB_ID_PATTERN, job_id) for job_id in ids)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_has_their_shape(code):
    """The status is that of the job API but for a full queue, and says whether to try again."""
    detail = Problem(field="height", problem="It is too high.")
    fault = Fault(code, "What happened.", (detail,))
    answer = openai_errors.response(ProblemError(fault))
    error = OpenAIError.model_validate_json(answer.body).error
    assert (error.code, error.message, error.param) == (code, "What happened.", "size")
    expected = 429 if code is ErrorCode.BUSY else ERRORS[code].http_status
    assert (answer.status_code, status_of(code)) == (expected, expected)
    again = "true" if ERRORS[code].retryable else "false"
    assert answer.headers["x-should-retry"] == again
    assert ("retry-after" in answer.headers) == (
        ERRORS[code].retryable and expected in {429, 503, 409}
    )
