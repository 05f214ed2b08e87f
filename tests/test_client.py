"""The client: what a chat backend gets from one call, whatever happens on the way."""

import asyncio
import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import aio_pika
import pytest
from PIL import Image

from imagegen_client import (
    Busy,
    Cancelled,
    DeadlineExceeded,
    GeneratedImage,
    GenerationFailed,
    ImageClient,
    InvalidRequest,
    Progress,
    Unavailable,
)
from imagegen_client import job as job_module
from imagegen_client.errors import error_from_reply
from imagegen_client.image import image_from_reply
from schemas import ERRORS
from tests.conftest import VHOST
from tests.house import House
from tests.impostor import in_the_services_place
from tests.pipelines import Scripted
from tests.proxy import FrameProxy
from tests.serving import ROOT
from tests.test_contract import RESULT

QUEUE_BIND_OK = (50, 21)
SMALL = {"width": 256, "height": 256}
ENDLESS = "tests.test_gpu_process:Endless"


class WaitsAtTheEnd(Scripted):
    """Draws every step, and waits on the FIFO that the prompt names before it gives the picture."""

    def draw(self, command, on_step):
        drawn = super().draw(command, on_step)
        Path(command.prompt).read_bytes()
        return drawn


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
def endless(house):
    """A service whose pictures end only when they are called off."""
    return house.service(PIPELINE=ENDLESS)


@pytest.fixture
def nobody(house):
    """No service."""
    house.stop()


@pytest.fixture
async def client(broker):
    async with ImageClient(broker.url()) as client:
        yield client


@contextlib.asynccontextmanager
async def under_way(client, prompt, **options):
    """A picture that is asked for in a task of its own; given up at the end, if need be."""
    task = asyncio.get_running_loop().create_task(client.generate(prompt, **options))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


# ---------------------------------------------------------------- a picture


async def test_a_picture_comes_with_its_facts(service, client, tmp_path):
    """`generate` returns the file's bytes and everything that is told of it."""
    image = await client.generate("A sunset", seed=42, job_id="mine-1", **SMALL)
    assert isinstance(image, GeneratedImage)
    assert image == GeneratedImage(
        data=image.data,
        format="png",
        width=256,
        height=256,
        seed=42,
        prompt="A sunset",
        job_id="mine-1",
        model="scripted",
        generation_time=image.generation_time,
        forwards=8,
        sha256=hashlib.sha256(image.data).hexdigest(),
        worker="tester",
        attempt=1,
        replayed=False,
        timings=image.timings,
    )
    assert image.generation_time >= 0
    assert set(image.timings) == {"queued", "text_encode", "denoise", "vae_decode", "encode"}
    saved = image.save(tmp_path / "new" / "picture.png")
    assert Image.open(io.BytesIO(saved.read_bytes())).size == (256, 256)


async def test_the_format_asked_for_is_what_comes(service, client):
    """The bytes are of the format that is asked for and told."""
    for output_format in ("png", "webp", "jpeg"):
        image = await client.generate("x", output_format=output_format, **SMALL)
        assert image.format == output_format
        assert Image.open(io.BytesIO(image.data)).format == output_format.upper()


async def test_many_tasks_share_one_client(service, client):
    """Each gets its own picture."""
    seeds = range(10)
    images = await asyncio.gather(*(client.generate("x", seed=seed, **SMALL) for seed in seeds))
    assert [image.seed for image in images] == list(seeds)
    assert len({image.sha256 for image in images}) == 10


async def test_a_job_id_that_is_used_again_gives_the_same_picture(service, client):
    """To ask again after a doubtful end costs no second picture."""
    first = await client.generate("x", job_id="again", **SMALL)
    second = await client.generate("x", job_id="again", **SMALL)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.data == second.data


async def test_progress_is_told_for_every_step(house, client, gate):
    """The caller's function hears of the start and of each step, in order, of this job only."""
    await asyncio.to_thread(house.service, PIPELINE="tests.test_client:WaitsAtTheEnd")
    heard, last = [], asyncio.Event()

    def on_progress(progress):
        heard.append(progress)
        if progress.step == 8:
            last.set()

    options = {"job_id": "told", "on_progress": on_progress, **SMALL}
    async with under_way(client, str(gate.path), **options) as picture:
        await last.wait()
        await asyncio.to_thread(gate.reached)
        gate.open()
        await picture
    assert heard[0] == Progress("told", "running", 0, 8)
    assert heard[1:9] == [Progress("told", "step", step, 8) for step in range(1, 9)]


async def _hears_news(client, gate):
    """Draw one picture whose progress is told while it waits at the gate."""
    heard = asyncio.Event()
    options = {"on_progress": lambda _: heard.set(), **SMALL}
    async with under_way(client, f"wait={gate.path}", **options) as picture:
        await asyncio.to_thread(gate.reached)
        async with asyncio.timeout(30):
            await heard.wait()
        gate.open()
        await picture


async def test_a_job_that_ended_leaves_the_news_to_the_next(service, client, gate):
    """Leaving the block right after the result cuts off nobody's progress."""
    async with client.submit("x", **SMALL) as job:
        await job.result()
    await _hears_news(client, gate)


async def test_a_job_that_is_left_early_leaves_the_news_to_the_next(service, broker, gate):
    """Cancelled while its binding is made: no listener stays, and later jobs hear their news."""
    async with FrameProxy(broker.url()) as proxy, ImageClient(proxy.url) as client:
        await client._link.session(10)
        proxy.hold("broker", QUEUE_BIND_OK)
        async with under_way(client, "x", on_progress=print, **SMALL):
            await proxy.held.wait()
            proxy.holding = None
            asyncio.get_running_loop().call_later(0.1, proxy.released.set)
        assert client._link.news._listeners == {}
        await _hears_news(client, gate)


async def test_the_example_with_progress_draws(service, broker, tmp_path):
    """What the README points to works as it stands."""
    file = tmp_path / "picture.png"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, ROOT / "examples/with_progress.py", broker.url(), "x", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "step 8 of 8" in done.stdout
    assert Image.open(io.BytesIO(file.read_bytes())).format == "PNG"


# ---------------------------------------------------------------- no picture


async def test_a_full_queue_is_told_at_once(nobody, broker, channel, client):
    """Beyond 20 waiting requests: Busy, which says when to try again; nothing is stored."""
    exchange = await channel.get_exchange("imagegen", ensure=False)
    for number in range(20):
        message = aio_pika.Message(b"{}", message_id=str(number))
        await exchange.publish(message, "imagegen.requests")
    with pytest.raises(Busy) as caught:
        await client.generate("x")
    assert (caught.value.code, caught.value.retryable) == ("busy", True)
    assert caught.value.retry_after_s > 0
    assert broker.waiting() == 20


async def test_a_broker_that_is_away_is_told(unused_tcp_port):
    """No broker: Unavailable within the caller's patience, with the reason."""
    async with ImageClient(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x") as client:
        with pytest.raises(Unavailable, match=r"could not be reached in time: .*Errno 111"):
            await client.generate("x", deadline_s=0.5)


@pytest.mark.parametrize("user", ["monitoring", "nobody"])
async def test_a_user_without_rights_is_told(broker, user):
    """A password or rights that are not right: Unavailable with the broker's reason."""
    url = "amqp://nobody:x@" + broker.url().split("@")[1]
    if user != "nobody":
        url = broker.url(user)
    async with ImageClient(url) as client:
        with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
            await client.generate("x", deadline_s=1)


async def test_a_wrong_request_is_told_with_its_fields(service, client):
    """InvalidRequest has every wrong field with what to send instead."""
    with pytest.raises(InvalidRequest) as caught:
        await client.generate("", width=1, cfg=2.0, job_id="wrong")
    assert (caught.value.code, caught.value.retryable) == ("invalid_request", False)
    assert caught.value.job_id == "wrong"
    assert [detail["field"] for detail in caught.value.details] == ["prompt", "width", "cfg"]
    assert caught.value.details[2]["suggestion"] == "use guidance_scale"


async def test_a_picture_that_cannot_be_drawn_is_told(service, client):
    """GenerationFailed has the service's code, and its advice on trying again."""
    with pytest.raises(GenerationFailed) as caught:
        await client.generate("oom")
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)


async def test_a_deadline_ends_a_running_picture(endless, client):
    """The service stops at its next step, and its word comes as DeadlineExceeded."""
    with pytest.raises(DeadlineExceeded, match="Send it again with more patience"):
        await client.generate("x", deadline_s=2, job_id="late")
    assert endless.wait("settled", job_id="late")["outcome"] == "expired"


async def test_a_deadline_holds_without_a_service(nobody, client, monkeypatch):
    """Where nobody answers, the client's own clock ends the wait, and nothing is kept of it."""
    monkeypatch.setattr(job_module, "GRACE_S", 0.1)
    with pytest.raises(DeadlineExceeded, match=r"No answer within 0\.5 s"):
        await client.generate("x", deadline_s=0.5, on_progress=print)
    assert (client._answers._expected, client._link.news._listeners) == ({}, {})


@pytest.mark.parametrize("code", ERRORS, ids=str)
def test_every_code_of_the_contract_has_its_exception(code):
    """Code, sentence, advice, details and job id of an error reply arrive in the exception."""
    details = [{"field": "prompt", "problem": "It is long.", "suggestion": None}]
    error = error_from_reply(
        {
            "success": False,
            "job_id": "mine",
            "error": {
                "code": code.value,
                "message": "A sentence.",
                "retryable": ERRORS[code].retryable,
                "details": details,
            },
        }
    )
    assert (error.code, error.message, error.job_id) == (code.value, "A sentence.", "mine")
    assert (error.retryable, error.details) == (ERRORS[code].retryable, tuple(details))
    assert str(error) == "A sentence."


# ---------------------------------------------------------------- called off


async def test_a_cancelled_task_calls_its_job_off(endless, client):
    """Whoever stops waiting stops the work: the service hears of it and ends the picture."""
    async with under_way(client, "x", job_id="called-off") as picture:
        await asyncio.to_thread(endless.wait, "started", job_id="called-off")
        picture.cancel()
        with pytest.raises(asyncio.CancelledError):
            await picture
    endless.wait("cancel_heard", job_id="called-off")
    assert endless.wait("settled", job_id="called-off")["outcome"] == "cancelled"


async def test_a_job_can_be_called_off_by_another(endless, client, broker):
    """`cancel` by whoever knows the id: the one that waits gets Cancelled."""
    async with (
        under_way(client, "x", job_id="known") as picture,
        ImageClient(broker.url()) as other,
    ):
        await asyncio.to_thread(endless.wait, "started", job_id="known")
        await other.cancel("known")
        with pytest.raises(Cancelled):
            await picture


async def test_a_task_can_be_cancelled_while_the_broker_is_away(unused_tcp_port):
    """A cancellation is never turned into another error, nor held up."""
    async with ImageClient(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.generate("x")


# ---------------------------------------------------------------- trouble on the way


async def test_a_lost_connection_does_not_cost_the_picture(service, client, broker, gate):
    """The client's connection is closed by force in a picture: the picture comes all the same."""
    async with under_way(client, f"wait={gate.path}", job_id="kept", **SMALL) as picture:
        await asyncio.to_thread(service.wait, "started", job_id="kept")
        assert await asyncio.to_thread(_close_connections, broker, "chat-backend") == 1
        await asyncio.to_thread(gate.reached)
        gate.open()
        assert (await picture).forwards == 8


def _close_connections(broker, user):
    """Not the client of the service's own HTTP face, which has another user."""
    closed = 0
    while not closed:  # the management API lists a connection a moment after it stands
        for connection in broker.api(f"vhosts/{VHOST}/connections"):
            if connection.get("user") == user:
                broker.api(f"connections/{quote(connection['name'], safe='')}", "DELETE")
                closed += 1
    return closed


@pytest.fixture
async def impostor(nobody, broker):
    async with in_the_services_place(broker) as impostor:
        yield impostor


async def test_duplicate_replies_are_dropped(impostor, client):
    """A second reply to one request disturbs neither it nor the next one."""
    for seed in (1, 2):
        async with under_way(client, "x") as picture:
            request = await impostor.request()
            for _ in range(3):
                await impostor.draw(request, seed)
            assert (await picture).seed == seed


async def test_a_stray_reply_is_dropped(impostor, client):
    """An answer to nobody's question is not taken for the answer to another."""
    async with under_way(client, "x") as picture:
        request = await impostor.request()
        for stray in ("other", None):
            await impostor.draw(request, 1, correlation_id=stray)
        await impostor.draw(request, 2)
        assert (await picture).seed == 2


@pytest.mark.parametrize(
    ("body", "message_type"),
    [
        (b"no json", "imagegen.result.v1"),
        (b"{}", "imagegen.result.v1"),
        (b"no json", "imagegen.error.v1"),
        (b"[]", "imagegen.error.v1"),
        (b'{"error": "all of it"}', "imagegen.error.v1"),
        (b"\xff", None),
    ],
)
async def test_a_reply_that_cannot_be_read_is_told(impostor, client, body, message_type):
    """Whatever comes in the place of a reply ends the wait with an error, not in silence."""
    async with under_way(client, "x") as picture:
        await impostor.answer(await impostor.request(), body, message_type)
        with pytest.raises(GenerationFailed, match="The reply cannot be read"):
            await picture


def test_a_json_reply_is_read_like_a_raw_one():
    """A service that answers in JSON gives the same image with the same facts."""
    image = image_from_reply(RESULT.encode(), "application/json", {})
    facts = json.loads(RESULT)
    assert image.data == b"\x89PNG\r\n\x1a\n"
    assert (image.seed, image.timings) == (facts["seed"], facts["timings"])
    assert (image.job_id, image.replayed) == (facts["job_id"], False)


# ---------------------------------------------------------------- start and stop


async def test_close_twice_and_without_a_start_is_harmless(broker):
    """A client may be closed at any time, any number of times."""
    client = ImageClient(broker.url())
    await client.close()
    async with client:
        await client.close()
    await client.close()


async def test_close_gives_up_what_is_waited_for(endless, broker):
    """Who still waits is told so; no connection and no task is left behind."""
    client = ImageClient(broker.url())
    async with under_way(client, "x", job_id="left", deadline_s=3) as picture:
        await asyncio.to_thread(endless.wait, "started", job_id="left")
        await client.close()
        with pytest.raises(Unavailable, match="The client was closed"):
            await picture
    assert client._link._keeper is None


async def test_the_reply_queue_goes_with_the_client(broker, channel):
    """A client that is closed in order leaves nothing on the broker."""
    async with ImageClient(broker.url()) as client:
        name = (await client._link.session(10)).reply_to.name
        assert await channel.declare_queue(name, passive=True)
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await channel.declare_queue(name, passive=True)
