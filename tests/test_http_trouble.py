"""The HTTP face in trouble: callers who leave, a full queue, too much of anything."""

import asyncio
import json

import pytest

from tests import asking
from tests.asking import SMALL, Caller, held, known, name, problem
from tests.impostor import fill

gate = asking.gate
house = asking.house
WASTED = "imagegen_gpu_wasted_seconds_total"


@pytest.fixture
def service(house):
    return house.service(HTTP_MAX_WAITING=2)


@pytest.fixture
async def caller(service):
    async with Caller(service) as caller:
        yield caller


@pytest.fixture
async def leaver(service):
    """A caller who goes away with `http.aclose`."""
    async with Caller(service) as caller:
        yield caller


async def left(task):
    """The caller is gone, its connection with it."""
    task.cancel()
    await asyncio.wait({task})


# ---------------------------------------------------------------- callers who leave


async def test_a_caller_who_leaves_has_the_picture_stopped(service, caller, leaver, gate):
    """Nobody waits for a picture any more: it stops at its next step, and its time is told."""
    before, job_id = await caller.counted(WASTED, reason="cancelled"), name()
    waiting = asyncio.get_running_loop().create_task(leaver.generate(held(gate), job_id))
    await asyncio.to_thread(gate.reached)
    await left(waiting)
    await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id, cause="cancelled")
    gate.open()
    assert (await caller.ended(job_id))["status"] == "cancelled"
    assert await caller.counted(WASTED, reason="cancelled") > before
    assert await caller.counted("imagegen_http_waiting") == 0


async def test_a_caller_who_leaves_the_queue_leaves_nothing(caller, leaver, gate):
    """A job that waits ends with its caller, before its turn comes."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    job_id = name()
    waiting = asyncio.get_running_loop().create_task(
        leaver.generate({"prompt": "x", **SMALL}, job_id)
    )
    await caller.crowd(1)
    await known(caller, job_id)
    await left(waiting)
    await caller.until(job_id, lambda job: job["status"] == "cancelled")
    gate.open()
    await caller.ended(first)


async def test_a_picture_that_another_waits_for_is_drawn(service, caller, leaver, gate):
    """Of two who wait for one key the first leaves: the other has the picture."""
    body, job_id = held(gate), name()
    loop = asyncio.get_running_loop()
    first = loop.create_task(leaver.generate(body, job_id))
    await asyncio.to_thread(gate.reached)
    second = loop.create_task(caller.generate(body, job_id))
    await caller.crowd(2)
    await left(first)
    await caller.crowd(1)
    gate.open()
    assert (await second).json()["attempt"] == 1


async def test_a_picture_that_the_last_one_leaves_is_stopped(service, caller, leaver, gate):
    """Of two who wait for one key both leave, one after the other: it is drawn for nobody."""
    body, job_id = held(gate), name()
    loop = asyncio.get_running_loop()
    first = loop.create_task(leaver.generate(body, job_id))
    await asyncio.to_thread(gate.reached)
    async with Caller(service) as other:
        second = loop.create_task(other.generate(body, job_id))
        await caller.crowd(2)
        await left(first)
        await caller.crowd(1)
        await left(second)
        await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id)
    gate.open()
    assert (await caller.ended(job_id))["status"] == "cancelled"


@pytest.mark.parametrize("asked_before", [True, False])
async def test_a_picture_that_is_to_be_fetched_is_drawn(caller, leaver, gate, asked_before):
    """A job that somebody asked for without waiting is not called off by one who waits for it."""
    body, job_id = held(gate), name()
    if asked_before:
        await caller.submitted(body, job_id)
    waiting = asyncio.get_running_loop().create_task(leaver.generate(body, job_id))
    await asyncio.to_thread(gate.reached)
    await caller.crowd(1)
    if not asked_before:
        assert (await caller.submitted(body, job_id)) == job_id
    await left(waiting)
    await caller.crowd(0)
    gate.open()
    assert (await caller.ended(job_id))["status"] == "succeeded"


async def test_who_stops_following_calls_nothing_off(caller, gate):
    """A stream of events that is closed gives its place back; the job goes on."""
    job_id = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    async with caller.events(job_id) as events:
        await anext(events)
        await caller.crowd(1)
    await caller.crowd(0)
    gate.open()
    assert (await caller.ended(job_id))["status"] == "succeeded"


# ---------------------------------------------------------------- too much


async def test_a_full_queue_is_busy(caller, channel, gate):
    """Beyond the queue a request is refused with Retry-After, and is nowhere afterwards."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    job_id = name()
    for ask in (caller.submit, caller.generate):
        answer = await ask({"prompt": "x", **SMALL}, job_id)
        told = problem(answer, 503, "busy")
        assert (told["retryable"], told["job_id"]) == (True, job_id)
        assert int(answer.headers["retry-after"]) >= 1
        problem(await caller.get(f"/job/{job_id}"), 404, "not_found")
    jobs = (await caller.get("/jobs?limit=1")).json()["jobs"]
    assert [job["job_id"] for job in jobs] == [first]
    gate.open()
    await caller.ended(first)


async def test_callers_who_wait_are_counted(service, caller, gate):
    """Beyond HTTP_MAX_WAITING nobody may wait or follow; to ask without waiting is free."""
    job_id = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    async with (
        Caller(service) as one,
        Caller(service) as other,
        one.events(job_id) as first,
        other.events(job_id) as second,
    ):
        await anext(first)
        await anext(second)
        answer = await caller.generate({"prompt": "x", **SMALL})
        problem(answer, 503, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        problem(await caller.get(f"/job/{job_id}/events"), 503, "busy")
        assert (await caller.submit()).status_code == 202
        assert (await caller.get("/readyz")).status_code == 200
    gate.open()
    await caller.ended(job_id)


MOST = 64 * 1024


def _body_of(size):
    body = json.dumps({"prompt": "x", **SMALL}).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_a_limit(caller, chunked):
    """64 KiB are taken, a byte more is not, whether the length was announced or not."""

    async def pieces(body):
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    headers = {"Content-Type": "application/json"}
    for size, status in ((MOST, 202), (MOST + 1, 413)):
        body = _body_of(size)
        answer = await caller.http.post(
            "/generate/async", content=pieces(body) if chunked else body, headers=headers
        )
        assert answer.status_code == status, answer.text
    problem(answer, 413, "request_too_large")


async def test_a_huge_body_is_refused_before_it_came(service):
    """Who announces a gigabyte is told at once, without a byte of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1073741824\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), asking.PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in answer
    writer.close()


async def test_who_still_sends_a_body_that_is_too_large_has_the_answer(service):
    """The connection is not reset under a client that sends on: it would lose the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 200000\r\n\r\n" + b" " * 100_000
    )
    await asyncio.wait_for(reader.readuntil(b" 413 "), asking.PATIENCE_S)
    writer.write(b" " * 100_000)
    rest = await asyncio.wait_for(reader.read(), asking.PATIENCE_S)
    assert b"request_too_large" in rest
    writer.close()
    await writer.wait_closed()


async def test_headers_have_a_limit(service, caller):
    """A header without end is not kept in memory: the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000)
    answer = await asyncio.wait_for(reader.read(), asking.PATIENCE_S)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    writer.close()
    assert (await caller.get("/livez")).status_code == 200
