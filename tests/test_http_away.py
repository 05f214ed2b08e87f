"""The HTTP face and what it stands on: a broker or a store that is away, a service that stops."""

import asyncio
import contextlib
import shutil
import signal
import socket

import httpx

from tests import asking
from tests.asking import SMALL, Caller, held, known, name, problem
from tests.proxy import BASIC_ACK, FrameProxy

gate = asking.gate


# ---------------------------------------------------------------- what is away


async def test_without_a_broker_it_is_unavailable(serve, broker):
    """While the broker is away requests are refused and leave nothing; probes and jobs are there."""
    async with FrameProxy(broker.url("imagegen-http")) as proxy:
        service = await asyncio.to_thread(serve(HTTP_AMQP_URL=proxy.url).wait_ready)
        async with Caller(service) as caller:
            done = await caller.submitted()
            await caller.ended(done)
            proxy.refuse()
            proxy.cut()
            # Perhaps on a link that is not known to be cut yet: then it may have been taken.
            problem(await caller.submit(), 503, "unavailable")
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


async def test_a_caller_is_told_of_the_doubt(serve, broker):
    """Where the broker's word does not come, a caller that need not wait hears so, and the job counts."""
    async with FrameProxy(broker.url("imagegen-http")) as proxy:
        service = await asyncio.to_thread(serve(HTTP_AMQP_URL=proxy.url).wait_ready)
        async with Caller(service) as caller:
            proxy.drop("broker", BASIC_ACK)
            answer = await caller.submit(job_id="in-doubt")
            assert "drawn once" in problem(answer, 503, "unavailable")["detail"]
            assert (await caller.ended("in-doubt"))["status"] == "succeeded"
            again = await caller.submit(job_id="in-doubt")
            assert (again.status_code, again.json()["status"]) == (202, "succeeded")
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
            await known(looker, waiting)
            service.signal(signal.SIGTERM)
            await asyncio.to_thread(service.wait, "taking_stopped")
            answer = await looker.submit()
            problem(answer, 503, "unavailable")
        gate.open()
        assert (await first).status_code == 200
        told = problem(await second, 503, "unavailable")
        assert told["job_id"] == waiting
    assert await asyncio.to_thread(service.end) == 0


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
            # It ends with the job or without, and in the middle of it or not.
            with contextlib.suppress(httpx.RemoteProtocolError):
                _ = [event async for event in events]
    assert await asyncio.to_thread(service.end) == 0


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
