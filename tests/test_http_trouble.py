"""The HTTP face in trouble: callers who leave, a full queue, a broker or a store that is away, a stop."""

import asyncio
import json
import shutil
import signal
import socket

import pytest

from tests import asking
from tests.asking import SMALL, Caller, held, name, problem
from tests.house import House
from tests.proxy import FrameProxy

gate = asking.gate
WASTED = "imagegen_gpu_seconds_wasted_total"


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    house = House(broker, folder, HTTP_AMQP_URL=broker.url("imagegen-http"))
    yield house
    house.stop()


@pytest.fixture
def service(house):
    return house.service(MAX_QUEUE_SIZE=2, HTTP_MAX_WAITING=2)


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
    await _known(caller, job_id)
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


async def _known(caller, job_id):
    async with asyncio.timeout(asking.PATIENCE_S):
        while True:
            if (await caller.get(f"/job/{job_id}")).status_code == 200:
                return
            await asyncio.sleep(0.02)


# ---------------------------------------------------------------- too much


async def test_a_full_queue_is_busy(caller, gate):
    """Beyond the queue a request is refused with Retry-After, and is nowhere afterwards."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    waiting = [await caller.submitted() for _ in range(2)]
    job_id = name()
    for answer in (
        await caller.submit(job_id=job_id),
        await caller.generate({"prompt": "x", **SMALL}, job_id),
    ):
        told = problem(answer, 503, "busy")
        assert (told["retryable"], told["job_id"]) == (True, job_id)
        assert int(answer.headers["retry-after"]) >= 1
    problem(await caller.get(f"/job/{job_id}"), 404, "not_found")
    jobs = (await caller.get("/jobs?limit=3")).json()["jobs"]
    assert [job["job_id"] for job in jobs] == [*waiting[::-1], first]
    gate.open()
    await caller.ended(waiting[-1])


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


async def test_headers_have_a_limit(service, caller):
    """A header without end is not kept in memory: the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000)
    answer = await asyncio.wait_for(reader.read(), asking.PATIENCE_S)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    writer.close()
    assert (await caller.get("/livez")).status_code == 200


# ---------------------------------------------------------------- what is away


async def test_without_a_broker_it_is_unavailable(serve, broker, monkeypatch):
    """While the broker is away requests are refused and leave nothing; probes and jobs are there."""
    async with FrameProxy(broker.url("imagegen-http")) as proxy:
        service = await asyncio.to_thread(serve(HTTP_AMQP_URL=proxy.url).wait_ready)
        async with Caller(service) as caller:
            done = await caller.submitted()
            await caller.ended(done)
            proxy.refuse()
            proxy.cut()
            job_id = name()
            answer = await caller.submit(job_id=job_id)
            told = problem(answer, 503, "unavailable")
            assert told["retryable"]
            assert int(answer.headers["retry-after"]) >= 1
            problem(await caller.generate({"prompt": "x"}, job_id), 503, "unavailable")
            problem(await caller.get(f"/job/{job_id}"), 404, "not_found")
            assert (await caller.get("/livez")).status_code == 200
            assert (await caller.get(f"/job/{done}/image")).status_code == 200
            proxy.accept()
            await caller.ended(await _taken(caller, job_id))
        await asyncio.to_thread(service.stop)


async def _taken(caller, job_id):
    """Ask again, as Retry-After has it, until it is taken."""
    async with asyncio.timeout(asking.PATIENCE_S):
        while True:
            answer = await caller.submit(job_id=job_id)
            if answer.status_code == 202:
                return job_id
            problem(answer, 503, "unavailable")


async def test_without_a_store_it_is_unavailable(serve, tmp_path):
    """While the store is away the job API says so; the probes go on; back, it serves again."""
    service = await asyncio.to_thread(serve().wait_ready)
    async with Caller(service) as caller:
        job_id = await caller.submitted()
        await caller.ended(job_id)
        await asyncio.to_thread(shutil.move, tmp_path / "jobs.sqlite", tmp_path / "away")
        (tmp_path / "jobs.sqlite").mkdir()
        for answer in (
            await caller.submit(),
            await caller.generate({"prompt": "x", **SMALL}),
            await caller.get(f"/job/{job_id}"),
            await caller.get("/jobs"),
            await caller.cancel(job_id),
        ):
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await caller.get("/livez")).status_code == 200
        (tmp_path / "jobs.sqlite").rmdir()
        await asyncio.to_thread(shutil.move, tmp_path / "away", tmp_path / "jobs.sqlite")
        assert (await caller.status(job_id))["status"] == "succeeded"
    await asyncio.to_thread(service.stop)


# ---------------------------------------------------------------- a stop


async def test_a_stop_leaves_nobody_waiting(serve, gate):
    """Who waits for the picture on the GPU gets it; who waits behind it is told to come again."""
    service = await asyncio.to_thread(serve().wait_ready)
    loop = asyncio.get_running_loop()
    async with Caller(service) as caller, Caller(service) as other:
        job_id = name()
        first = loop.create_task(caller.generate(held(gate), job_id))
        await asyncio.to_thread(gate.reached)
        async with Caller(service) as looker:
            await looker.until(job_id, lambda job: job["step"] is not None)
            waiting = name()
            second = loop.create_task(other.generate({"prompt": "x", **SMALL}, waiting))
            await looker.crowd(2)
            await _known(looker, waiting)
            service.signal(signal.SIGTERM)
            await asyncio.to_thread(service.wait, "taking_stopped")
            answer = await looker.submit()
            problem(answer, 503, "unavailable")
        gate.open()
        assert (await first).status_code == 200
        told = problem(await second, 503, "unavailable")
        assert told["job_id"] == waiting
    assert await asyncio.to_thread(service.stop) == 0


async def test_a_stop_ends_the_events(serve, gate):
    """A stream of events does not hold a stop up."""
    service = await asyncio.to_thread(serve(DRAIN_S=0).wait_ready)
    async with Caller(service) as caller:
        job_id = await caller.submitted(held(gate))
        await asyncio.to_thread(gate.reached)
        async with caller.events(job_id) as events:
            await anext(events)
            service.signal(signal.SIGTERM)
            gate.open()
            with pytest.raises(Exception, match=r"peer closed|incomplete"):
                _ = [event async for event in events]
    assert await asyncio.to_thread(service.stop) == 0


# ---------------------------------------------------------------- without a user of its own


async def test_without_a_user_of_its_own_it_uses_the_consumers(serve, gate):
    """The consumer's user is enough for all of it: to draw, to follow the steps, to call off."""
    service = await asyncio.to_thread(serve(HTTP_AMQP_URL="").wait_ready)
    async with Caller(service) as caller:
        assert (await caller.generate({"prompt": "x", **SMALL})).status_code == 200
        job_id = await caller.submitted(held(gate))
        await asyncio.to_thread(gate.reached)
        await caller.until(job_id, lambda job: job["step"] == 1)
        assert (await caller.cancel(job_id)).status_code == 202
        await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id)
        gate.open()
        assert (await caller.ended(job_id))["status"] == "cancelled"
    await asyncio.to_thread(service.stop)


async def test_a_port_that_is_told_is_listened_on(serve):
    """From the word that it listens, connections are taken."""
    service = serve()
    port = (await asyncio.to_thread(service.wait, "http_listening"))["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=asking.PATIENCE_S):
        pass
    await asyncio.to_thread(service.stop)
