"""The safety: who may pass, for every Host, origin and token; and how slow a caller may be."""

import asyncio
import contextlib

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from consumer.http import asked, limits, problems, safety
from consumer.http.problems import ProblemError
from consumer.http.safety import LOOPBACK_NAMES, Rules, Safety, name_of

TOKEN = b"a-token-of-some-length"
PATIENCE_S = 30.0


def rules(token=None):
    return Rules(
        hosts=LOOPBACK_NAMES | {"images.example", "10.0.0.7"},
        token=token,
        open_paths=frozenset({"/livez"}),
        tokenless_paths=frozenset({"/docs"}),
    )


async def status(method="GET", path="/jobs", token=None, **headers):
    """The status and headers that a request gets; 200 where it passes."""
    sent = []

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in {"host": "localhost:8034", **headers}.items()
        ],
    }
    await Safety(app, rules(token))(scope, None, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert told["x-content-type-options"] == "nosniff"
    assert told["cross-origin-resource-policy"] == "same-origin"
    return sent[0]["status"], told


HOSTS = {
    "localhost": 200,
    "localhost:8034": 200,
    "LOCALHOST:80": 200,
    "127.0.0.1:8034": 200,
    "[::1]:8034": 200,
    "images.example": 200,
    "Images.Example:443": 200,
    "10.0.0.7:8034": 200,
    "evil.example": 403,
    "localhost.evil.example": 403,
    "images.example.evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "127.0.0.2": 403,
    "": 403,
    "[::1": 403,
    "[evil]": 403,
    ":8034": 403,
    "localhost/../evil": 200,
    "evil.example#localhost": 403,
    "localhost@evil.example": 403,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_only_our_names_are_answered(host):
    """A page whose name was made to point here does not get in; a probe asks under any name."""
    assert (await status(host=host))[0] == HOSTS[host]
    assert (await status(path="/livez", host=host))[0] == 200


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "\x00", "[evil]:1"])
def test_what_is_no_name_is_none(host):
    """Nothing that a Host may hold breaks the look at it."""
    assert name_of(host) in {"", "a b", "\x00"}


ORIGINS = {
    "http://localhost:8034": 200,
    "HTTP://LOCALHOST:8034": 200,
    "http://localhost:3000": 403,
    "http://localhost": 403,
    "http://evil.example": 403,
    "null": 403,
    "": 403,
    "http://[": 403,
}


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
async def test_a_page_from_elsewhere_does_nothing(method, origin):
    """A write that a browser says comes from another origin is refused; a look is not."""
    assert (await status(method, origin=origin))[0] == ORIGINS[origin]
    assert (await status("GET", origin=origin))[0] == 200


@pytest.mark.parametrize(
    ("site", "expected"),
    [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)],
)
async def test_what_a_browser_says_of_the_site_counts(site, expected):
    """Without an Origin, Sec-Fetch-Site tells where a write came from."""
    assert (await status("POST", sec_fetch_site=site))[0] == expected


AUTHORIZATIONS = {
    "Bearer a-token-of-some-length": 200,
    "bearer  a-token-of-some-length ": 200,
    "Bearer a-token-of-some-lengt": 401,
    "Bearer a-token-of-some-length2": 401,
    "Bearer": 401,
    "Bearer é": 401,
    "Basic a-token-of-some-length": 401,
    "a-token-of-some-length": 401,
    "": 401,
}


@pytest.mark.parametrize("authorization", AUTHORIZATIONS)
async def test_a_token_is_shown_or_nothing_is(authorization):
    """Where a token is set nothing passes without it; documents and probes do."""
    found, told = await status(token=TOKEN, authorization=authorization)
    assert found == AUTHORIZATIONS[authorization]
    assert told.get("www-authenticate") == (None if found == 200 else "Bearer")
    for path in ("/docs", "/livez"):
        assert (await status(path=path, token=TOKEN, authorization=authorization))[0] == 200


# ---------------------------------------------------------------- slow callers


async def _echo(request: Request):
    try:
        body = await asked._body(request)
    except ProblemError as error:
        return problems.response(error)
    return JSONResponse({"bytes": len(body)})


async def _endless(_: Request):
    async def pieces():
        while True:
            yield b"x" * 65_536

    return StreamingResponse(pieces())


@pytest.fixture
async def port(unused_tcp_port):
    """Where a small application listens behind the safety, in the limited protocol."""
    app = Safety(
        Starlette(
            routes=[Route("/echo", _echo, methods=["POST"]), Route("/endless", _endless)]
        ),
        rules(),
    )
    config = uvicorn.Config(
        app, port=unused_tcp_port, http=limits.LimitedProtocol, ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # they are pytest's
    serving = asyncio.get_running_loop().create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield unused_tcp_port
    server.should_exit = True
    await serving


async def _open(port, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def _rest(reader):
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"


@pytest.mark.parametrize("sent", [b"", b"POST /ec", HEAD])
async def test_a_slow_header_is_closed(port, monkeypatch, sent):
    """A connection on which no whole header comes is closed, on the first request or a later one."""
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.2)
    reader, writer = await _open(port, sent)
    assert await _rest(reader) == b""
    writer.close()
    if sent:
        reader, writer = await _open(port, HEAD + b"\r\n0123456789" + sent)
        answer = await _rest(reader)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        writer.close()


async def test_a_header_in_time_is_not_closed(port, monkeypatch):
    """The limit is the header's alone: a request that takes longer than it is answered."""
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.2)
    reader, writer = await _open(port, HEAD + b"Connection: close\r\n\r\n01234")
    await asyncio.sleep(0.4)
    writer.write(b"56789")
    answer = await _rest(reader)
    assert b'{"bytes":10}' in answer
    writer.close()


async def test_a_slow_body_is_told_so(port, monkeypatch):
    """A body that does not come is 408, and the connection ends."""
    monkeypatch.setattr(asked, "BODY_TIMEOUT_S", 0.2)
    reader, writer = await _open(port, HEAD + b"\r\n01234")
    answer = await _rest(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
    writer.close()


async def test_more_connections_than_there_may_be_are_closed(port, monkeypatch):
    """Beyond the limit a new one is closed unheard; those that are there go on."""
    monkeypatch.setattr(limits, "CONNECTIONS_MOST", 1)
    first, first_writer = await _open(port, HEAD)
    second, second_writer = await _open(port, b"")
    assert await _rest(second) == b""
    first_writer.write(b"Connection: close\r\n\r\n0123456789")
    assert b'{"bytes":10}' in await _rest(first)
    for writer in (first_writer, second_writer):
        writer.close()


async def test_who_takes_nothing_is_given_up(port, monkeypatch):
    """A client that asks and does not read is closed; it holds no task for ever."""
    monkeypatch.setattr(safety, "SEND_TIMEOUT_S", 0.2)
    before = len(asyncio.all_tasks())
    _, writer = await _open(port, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        while len(asyncio.all_tasks()) <= before:  # noqa: ASYNC110 - until it is served
            await asyncio.sleep(0.01)
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - until it is given up
            await asyncio.sleep(0.01)
    writer.close()
