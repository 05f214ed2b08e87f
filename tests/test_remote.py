"""The remote: what holds over HTTP when the way is bad, and how strange answers are told."""

import asyncio
import contextlib
import json

import pytest

from consumer import remote as remote_module
from consumer.carrier import base_url
from consumer.remote import RemoteClient
from consumer.sse import MOST_BYTES, Event, events
from imagegen_client import (
    Busy,
    DeadlineExceeded,
    GenerationFailed,
    InvalidRequest,
    NotFound,
    Progress,
    Unavailable,
)
from tests.command_line import CommandLine
from tests.scripted_face import CUT, ScriptedFace, answer, problem, status, stream

ACCEPTED = answer(202, {"job_id": "x", "status": "queued"})
PICTURE = answer(
    200,
    b"pixels",
    "image/png",
    X_Imagegen_Job_Id="x",
    X_Imagegen_Width=256,
    X_Imagegen_Height=256,
    X_Imagegen_Seed=7,
    X_Imagegen_Generation_Time=0.5,
    X_Imagegen_Format="png",
    X_Imagegen_Sha256="0",
    X_Imagegen_Model="scripted",
    X_Imagegen_Forwards=8,
    X_Imagegen_Attempt=1,
    X_Imagegen_Replayed="false",
    X_Imagegen_Worker="tester",
    X_Imagegen_Timings='{"queued": 0.1}',
)
STRANGE = answer(404, b"<h1>Not Found</h1>", "text/html")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No pauses that nobody waits for."""
    monkeypatch.setattr(remote_module, "AGAIN_FIRST_S", 0.001)
    monkeypatch.setattr(remote_module, "AGAIN_MOST_S", 0.01)


@contextlib.asynccontextmanager
async def remote(**script):
    """A client of a face that follows this script."""
    async with ScriptedFace(**script) as face, RemoteClient(face.url, "secret") as client:
        yield client, face


async def _draw(client, heard=None, deadline_s=60.0):
    on_progress = (lambda _: None) if heard is None else heard.append
    return await client.generate(
        "A cat", deadline_s=deadline_s, on_progress=on_progress, seed=7
    )


# ---------------------------------------------------------------- on a bad way


async def test_a_stream_that_breaks_is_taken_up_again():
    """Cut off, refused, or ended before the job: the caller hears the progress and gets the picture."""
    events_told = [
        stream(("queued", None), ("running", 1)),
        CUT,
        problem(503, "busy", retryable=True, Retry_After=1),
        stream(("running", 1), ("running", 2), cut=True),
        stream(("running", 2), ("succeeded", 8)),
    ]
    heard = []
    async with remote(**{"async": [ACCEPTED], "events": events_told, "image": [PICTURE]}) as (
        client,
        face,
    ):
        image = await _draw(client, heard)
    assert heard == [Progress("x", "step", step, 8) for step in (1, 2)]
    assert (image.data, image.seed, image.prompt) == (b"pixels", 7, "A cat")
    assert (image.replayed, image.timings) == (False, {"queued": 0.1})
    assert len(face.of("events")) == 5


async def test_a_request_whose_answer_is_lost_is_handed_in_again():
    """Under the same key, so that it is drawn once."""
    script = {"async": [CUT, CUT, ACCEPTED]}
    async with remote(**script) as (client, face):
        job_id = await client.send("A cat", deadline_s=60, seed=7, width=None)
    asked = face.of("async")
    assert {one.headers["idempotency-key"] for one in asked} == {job_id}
    assert {one.headers["x-deadline-seconds"] for one in asked} == {"60.000"}
    assert [json.loads(one.body) for one in asked] == [{"prompt": "A cat", "seed": 7}] * 3
    assert {one.headers["authorization"] for one in asked} == {"Bearer secret"}


async def test_a_picture_whose_way_is_lost_is_fetched_again():
    """It is stored: asking again costs nothing."""
    waits = problem(409, "not_ready", retryable=True, Retry_After=1)
    script = {"async": [ACCEPTED], "events": [stream(("succeeded", 8))]}
    async with remote(**script, image=[CUT, waits, PICTURE]) as (client, _):
        assert (await _draw(client)).seed == 7


async def test_an_end_that_may_pass_is_an_end():
    """The job's own error is told, not asked about again, retryable or not."""
    failed = problem(503, "out_of_memory", retryable=True, Retry_After=1)
    script = {"async": [ACCEPTED], "events": [stream(("failed", None))], "image": [failed]}
    async with remote(**script) as (client, face):
        with pytest.raises(GenerationFailed) as caught:
            await _draw(client)
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)
    assert len(face.of("image")) == 1


async def test_a_deadline_holds_where_nothing_ends(monkeypatch):
    """A stream without an end, or a post without an answer: it may be drawn all the same."""
    monkeypatch.setattr(remote_module, "GRACE_S", 0.1)
    for script in (
        {"async": [ACCEPTED], "events": [asyncio.Event()]},
        {"async": [asyncio.Event()]},
    ):
        async with remote(**script) as (client, _):
            with pytest.raises(DeadlineExceeded, match=r"No answer within 0\.2 s") as caught:
                await _draw(client, deadline_s=0.2)
        assert caught.value.perhaps_taken
        assert caught.value.job_id


async def test_what_was_sent_without_an_answer_is_perhaps_taken():
    """Unavailable, which says that it may be drawn all the same."""
    async with remote(**{"async": [asyncio.Event()]}) as (client, _):
        with pytest.raises(Unavailable, match=r"No answer within 0\.2 s") as caught:
            await client.send("x", deadline_s=0.2)
    assert caught.value.perhaps_taken


async def test_a_refusal_is_told_as_over_amqp():
    """A full queue is Busy, with the service's own advice; a wrong field is InvalidRequest."""
    full = problem(503, "busy", retryable=True, Retry_After=17)
    async with remote(**{"async": [full, problem(400, "invalid_request")]}) as (client, face):
        with pytest.raises(Busy, match=r"This is busy\.") as caught:
            await client.send("x", deadline_s=60)
        assert (caught.value.retry_after_s, caught.value.perhaps_taken) == (17, False)
        with pytest.raises(InvalidRequest):
            await client.send("x", deadline_s=60)
    assert len(face.of("async")) == 2


async def test_a_cancelled_task_calls_off_what_is_on_its_way():
    """Its post may not have been read yet: the cancel is repeated until the job is known."""
    called_off = answer(202, status("running"))
    script = {"async": [asyncio.Event()], "cancel": [problem(404, "not_found"), called_off]}
    async with remote(**script) as (client, face):
        drawing = asyncio.get_running_loop().create_task(_draw(client))
        await face.wait("async")
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
    job_id = face.of("async")[0].headers["idempotency-key"]
    assert [one.path for one in face.of("cancel")] == [f"/job/{job_id}"] * 2


async def test_a_watch_ends_where_the_service_does_not_come_back(monkeypatch):
    """At first at once; later after so many tries in vain."""
    monkeypatch.setattr(remote_module, "MISSED_MOST", 3)
    async with remote(events=[CUT]) as (client, face):
        with pytest.raises(Unavailable):
            await anext(client.watch("x"))
        assert len(face.of("events")) == 1
    async with remote(events=[stream(("running", 1)), CUT]) as (client, face):
        async with contextlib.aclosing(client.watch("x")) as changes:
            assert (await anext(changes)).step == 1
            with pytest.raises(Unavailable, match="broke"):
                await anext(changes)
        assert len(face.of("events")) == 1 + 3


# ---------------------------------------------------------------- strange answers


async def test_a_server_that_is_not_ours_is_told():
    """A page, a JSON of others, a stream of nothing: "is this its address?", never a traceback."""
    script = {
        "async": [STRANGE],
        "id": [STRANGE, answer(200, []), answer(200, {"job_id": "x"})],
        "jobs": [answer(200, {"items": []}), answer(502, {"error": "bad gateway"})],
        "events": [answer(200, b"data: 7\n\n", "text/event-stream"), answer(200, b"\xff\n")],
        "cancel": [answer(200, b"", "text/plain")],
    }
    async with remote(**script) as (client, _):
        for call in (
            client.send("x", deadline_s=60),
            *(client.status("x") for _ in range(3)),
            *(client.jobs(1) for _ in range(2)),
            *(anext(client.watch("x")) for _ in range(2)),
            client.cancel("x"),
        ):
            with pytest.raises(Unavailable, match="Is this"):
                await call


async def test_a_picture_without_its_facts_is_told():
    """Not taken for one."""
    script = {"async": [ACCEPTED], "events": [stream(("succeeded", 8))]}
    async with remote(**script, image=[answer(200, b"pixels", "image/png")]) as (client, _):
        with pytest.raises(Unavailable, match="not as imagegen does"):
            await _draw(client)


async def test_a_job_that_is_not_there_is_not_found():
    """As over AMQP."""
    unknown = problem(404, "not_found")
    async with remote(id=[unknown], cancel=[unknown], events=[unknown]) as (client, _):
        for call in (client.status("x"), client.cancel("x"), anext(client.watch("x"))):
            with pytest.raises(NotFound):
                await call


async def test_nobody_at_the_address_is_told_with_a_remedy(unused_tcp_port):
    """Certainly not taken; and where to look."""
    async with RemoteClient(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(Unavailable, match=r"Nobody answers at .*--url") as caught:
            await _draw(client)
        assert not caught.value.perhaps_taken


@pytest.mark.parametrize("url", ["http://", "ftp://x", "http://x:port", "x"])
def test_what_is_no_address_is_refused(url):
    """Before anything is asked."""
    with pytest.raises(InvalidRequest, match="is no address"):
        RemoteClient(url)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def imagegen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path)


def test_a_service_that_is_away_exits_69(imagegen, unused_tcp_port):
    """Over HTTP as over AMQP: the sentence with its remedy. The address is that of the settings."""
    for command in (
        ("generate", "x"),
        ("generate", "x", "--async"),
        ("status", "x"),
        ("jobs",),
    ):
        away = imagegen.here(*command, "--via", "http", PORT=unused_tcp_port)
        assert away.returncode == 69
        told = away.stdout + away.stderr
        assert f"unavailable: Nobody answers at http://127.0.0.1:{unused_tcp_port}" in told


def test_a_token_that_is_missing_exits_77(serve, imagegen):
    """The token is that of the settings; without it, the sentence that names it."""
    token = "a-secret-of-sixteen-letters"
    service = serve(API_TOKEN=token).wait_ready()
    asked = ("jobs", "--url", f"http://127.0.0.1:{service.port}")
    refused = imagegen.here(*asked)
    assert (refused.returncode, refused.stdout) == (77, "")
    assert "unauthorized: " in refused.stderr
    assert "IMAGE_GEN_API_TOKEN" in refused.stderr
    assert imagegen.here(*asked, API_TOKEN=token).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--via", "http", "--url", "amqp://x/y"), "is no HTTP address, as --via http wants"),
        (("--via", "amqp", "--url", "http://x"), "is no AMQP address, as --via amqp wants"),
        (("--url", "ftp://x"), "amqp://user:password@host:5672/vhost"),
        (("--url", "http://"), "is no address. Give http://host:port."),
    ],
    ids=range(4),
)
def test_a_way_that_is_none_exits_2(imagegen, arguments, words):
    """Told with what to give instead."""
    refused = imagegen.here("jobs", *arguments)
    assert refused.returncode == 2
    assert words in " ".join(refused.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8034"),
        ("0.0.0.0", "http://127.0.0.1:8034"),  # noqa: S104 - compared, not bound
        ("::", "http://127.0.0.1:8034"),
        ("::1", "http://[::1]:8034"),
        ("gpu.local", "http://gpu.local:8034"),
    ],
)
def test_the_address_is_one_that_can_be_asked(host, url):
    """Of wherever the service listens."""
    assert base_url(host, 8034) == url


# ---------------------------------------------------------------- events


async def _events(*chunks):
    async def given():
        for chunk in chunks:
            yield chunk

    return [event async for event in events(given())]


async def test_events_are_read_however_they_are_cut():
    """Byte by byte or at once; ends of lines as they come; what is no field is passed over."""
    text = (
        ': still here\n\nid: 1\nevent: step\ndata: {"prompt": "a\u2028b é"}\n\n'
        "data: one\r\ndata:two\r\n\r\nevent: nothing\n\ndata: cut off"
    ).encode()
    told = [Event("step", '{"prompt": "a\u2028b é"}'), Event("message", "one\ntwo")]
    assert await _events(text) == told
    assert await _events(*(text[at : at + 1] for at in range(len(text)))) == told


async def test_a_line_without_an_end_is_no_event():
    """It is given up before it fills the memory."""
    with pytest.raises(ValueError, match="without an end"):
        await _events(b"x" * (MOST_BYTES + 1))
