"""What a review of the HTTP face proved: callers of one job, streams without an end, held connections."""

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
import threading

import httpx
import pytest
from starlette.responses import Response

from consumer.errors import StartRefusedError
from consumer.http import limits
from consumer.http.limits import LimitedProtocol
from consumer.http.safety import name_of
from consumer.http.server import HttpServer
from consumer.settings import read_settings

PATIENCE_S = 30.0
SMALL = {"width": 256, "height": 256}


@pytest.fixture
def service(serve):
    return serve().wait_ready()


@pytest.fixture
async def http(service):
    base = f"http://127.0.0.1:{service.port}"
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S, trust_env=False) as http:
        yield http


def held(gate):
    return {"prompt": f"wait={gate.path}", **SMALL}


def key(job_id):
    return {"Idempotency-Key": job_id}


async def standing(http, job_id):
    return (await http.get(f"/job/{job_id}")).json()["status"]


async def until(http, job_id, *states):
    """Return the state of a job once it is one of these."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await standing(http, job_id)
            if state in states:
                return state
            await asyncio.sleep(0.02)


async def waiting(http, count):
    """Return once so many wait or follow."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if f"imagegen_http_waiting {count:.1f}\n" in (await http.get("/metrics")).text:
                return
            await asyncio.sleep(0.02)


async def gone(call):
    """Have a caller hang up."""
    call.cancel()
    await asyncio.wait({call})


# ---------------------------------------------------------------- callers of one job


async def test_what_was_promised_to_be_drawn_is(http, gate):
    """A caller who waits and leaves takes nothing from one who will fetch the picture later."""
    call = asyncio.create_task(http.post("/generate", json=held(gate), headers=key("shared")))
    await asyncio.to_thread(gate.reached)
    accepted = await http.post("/generate/async", json=held(gate), headers=key("shared"))
    assert accepted.status_code == 202
    await gone(call)
    await waiting(http, 0)
    gate.open()
    assert await until(http, "shared", "succeeded", "cancelled") == "succeeded"


async def test_the_last_who_waits_takes_the_job_along(http, gate):
    """Of two who wait for one picture the first may go; with the last one it is called off."""
    calls = []
    for count in (1, 2):
        post = http.post("/generate", json=held(gate), headers=key("shared"))
        calls.append(asyncio.create_task(post))
        await waiting(http, count)
    await asyncio.to_thread(gate.reached)
    await gone(calls[0])
    await waiting(http, 1)
    assert await standing(http, "shared") == "running"
    await gone(calls[1])
    await waiting(http, 0)
    gate.open()
    assert await until(http, "shared", "succeeded", "cancelled") == "cancelled"


@pytest.mark.parametrize("path", ["/generate", "/v1/images/generations"])
async def test_all_who_wait_may_leave_in_one_moment(http, gate, path):
    """Two who hang up together leave nobody who waits: the picture is called off."""
    calls = []
    for count in (1, 2):
        post = http.post(path, json={"prompt": f"wait={gate.path}"}, headers=key("left"))
        calls.append(asyncio.create_task(post))
        await waiting(http, count)
    await asyncio.to_thread(gate.reached)
    await asyncio.gather(*map(gone, calls))
    await waiting(http, 0)
    gate.open()
    assert await until(http, "left", "succeeded", "cancelled") == "cancelled"


async def test_who_only_looks_on_keeps_no_job_going(service, http, gate):
    """A page that waits for a picture and follows it has it called off when it is closed."""
    call = asyncio.create_task(http.post("/generate", json=held(gate), headers=key("page")))
    await asyncio.to_thread(gate.reached)
    async with http.stream("GET", "/job/page/events") as events:
        await anext(events.aiter_lines())
        await gone(call)
        await asyncio.to_thread(service.wait, "stop_requested", job_id="page")
        gate.open()
    assert await until(http, "page", "succeeded", "cancelled") == "cancelled"


# ---------------------------------------------------------------- called off


async def test_a_job_is_called_off_while_the_service_drains(service, http, gate):
    """A cancel that is accepted stops the picture, though the service is on its way out."""
    await http.post("/generate/async", json=held(gate), headers=key("last"))
    await asyncio.to_thread(gate.reached)
    service.signal(signal.SIGTERM)
    await asyncio.to_thread(service.wait, "taking_stopped")
    answer = await http.delete("/job/last")
    assert answer.status_code == 202
    await asyncio.to_thread(service.wait, "stop_requested", job_id="last", cause="cancelled")
    gate.open()
    assert await asyncio.to_thread(service.end) == 0


async def test_a_cancel_over_http_is_news(http, gate, channel):
    """Who listens to the events hears of a queued job that was called off over HTTP."""
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("imagegen.events", "job.cancelled.#")
    await http.post("/generate/async", json=held(gate))
    await asyncio.to_thread(gate.reached)
    await http.post("/generate/async", json={"prompt": "x"}, headers=key("queued"))
    assert (await http.delete("/job/queued")).json()["status"] == "cancelled"
    async with queue.iterator(timeout=PATIENCE_S) as news:
        event = json.loads((await anext(news)).body)
    assert (event["job_id"], event["state"]) == ("queued", "cancelled")
    gate.open()


# ---------------------------------------------------------------- streams


async def test_a_stream_ends_when_its_job_is_forgotten(service, http, gate, tmp_path):
    """Nobody follows for ever what is not there any more."""
    await http.post("/generate/async", json=held(gate))
    await asyncio.to_thread(gate.reached)
    await http.post("/generate/async", json={"prompt": "x"}, headers=key("forgotten"))
    async with http.stream("GET", "/job/forgotten/events") as events:
        lines = events.aiter_lines()
        await anext(lines)
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as store:
            store.execute("DELETE FROM jobs WHERE id = 'forgotten'")
            store.commit()
        async with asyncio.timeout(PATIENCE_S):
            async for _ in lines:
                pass
    await waiting(http, 0)
    gate.open()


# ---------------------------------------------------------------- connections


@pytest.fixture
def server(monkeypatch):
    """A server of a large page, whose patience is short."""
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(limits, "TAKE_TIMEOUT_S", 0.2, raising=False)
    open_ends = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        size = 64 << 20 if scope["path"] == "/large" else 1
        await Response(bytes(size))(scope, receive, send)

    async def close():
        open_ends.clear()

    server = HttpServer("127.0.0.1", 0, app, close)
    server.port = server.start()
    yield server
    server.stop()


@pytest.fixture
def lost(monkeypatch):
    """An event for the end of a connection."""
    lost = threading.Event()
    end = LimitedProtocol.connection_lost
    monkeypatch.setattr(
        LimitedProtocol,
        "connection_lost",
        lambda protocol, problem: (end(protocol, problem), lost.set()),
    )
    return lost


def connect(server, request):
    """Send a request, and return the socket, which has little room for the answer."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(PATIENCE_S)
    line.connect(("127.0.0.1", server.port))
    line.sendall(request)
    return line


def drained(line):
    """Read until the other side is gone; how that is told does not matter."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := line.recv(1 << 20):
            received += chunk
    return received


def test_who_never_ends_a_request_is_hung_up_on(server):
    """An answer does not wait for the rest of the request, and the connection not for ever."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with connect(server, head) as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
        line.sendall(b"x")  # which ends the patience with a connection that is kept alive
        drained(line)


def test_who_takes_nothing_is_hung_up_on(server, lost):
    """A caller who does not read its answer costs its memory for a while only."""
    with connect(server, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as line:
        assert line.recv(1) == b"H"
        assert lost.wait(PATIENCE_S)


def test_who_takes_a_little_is_waited_for(server, lost, monkeypatch):
    """A caller who reads slowly is not hung up on, however little it takes at a time."""
    looks, looked = [], threading.Semaphore(0)
    look = LimitedProtocol._look_what_is_left
    monkeypatch.setattr(
        LimitedProtocol,
        "_look_what_is_left",
        lambda protocol, before: (
            looks.append(before),
            look(protocol, before),
            looked.release(),
        ),
    )
    monkeypatch.setattr(limits, "TAKE_TIMEOUT_S", 0.5)
    # With room as usual: a tiny window is opened in steps that take the system longer than that.
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while len(looks) < 3:
            assert line.recv(1 << 16, socket.MSG_WAITALL)
            looked.acquire(timeout=0.01)
        assert not lost.is_set()
    assert looks == sorted(looks, reverse=True)


def test_an_address_is_refused_that_another_has_bound(server):
    """Of two services that start at one moment with one port, one is told so by its start."""

    async def app(*_):
        raise AssertionError("it is not served")

    async def close():
        raise AssertionError("it was not started")

    second = HttpServer("127.0.0.1", server.port, app, close)
    with pytest.raises(StartRefusedError):
        second.start()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "host",
    [
        "evil.example@localhost",
        "evil.example\\@localhost",
        "localhost/evil.example",
        "localhost?evil.example",
        "localhost#evil.example",
        "local\thost",
        "localhost:99999999",
        "[::1",
        "",
    ],
)
def test_a_host_is_a_name_and_a_port(host):
    """What only a lenient parser takes for one of our names is none."""
    assert name_of(host) == ""


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("LocalHost", "localhost"),
        ("127.0.0.1:8034", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
    ],
)
def test_a_host_is_known_without_its_port(host, name):
    """Case and port make no other name."""
    assert name_of(host) == name


def test_the_name_that_is_listened_on_is_known_in_any_case():
    """A host that was set in capitals may be called, by whatever spelling."""
    settings = read_settings({"IMAGE_GEN_HOST": "MyBox", "IMAGE_GEN_API_TOKEN": "x" * 16})
    assert name_of("mybox:8034") in settings.host_names
