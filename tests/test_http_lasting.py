"""Jobs outlive the service: what was asked for over HTTP is there when the next one starts."""

import asyncio
import signal

from tests import asking
from tests.asking import Caller, held

gate = asking.gate


async def test_jobs_outlive_the_service(serve, gate):
    """What waited when a service stopped is drawn by the next; what was there is there still."""
    first = await asyncio.to_thread(serve().wait_ready)
    async with Caller(first) as caller:
        done = await caller.submitted()
        before = await caller.ended(done)
        running = await caller.submitted(held(gate))
        await asyncio.to_thread(gate.reached)
        await caller.until(running, lambda job: job["step"] is not None)
        waiting = await caller.submitted()
        first.signal(signal.SIGTERM)
        await asyncio.to_thread(first.wait, "draining")
        gate.open()
    assert await asyncio.to_thread(first.end) == 0
    second = await asyncio.to_thread(serve().wait_ready)
    async with Caller(second) as caller:
        assert await caller.status(done) == before
        assert (await caller.status(running))["status"] == "succeeded"
        assert (await caller.ended(waiting))["status"] == "succeeded"


async def test_jobs_outlive_a_killed_service(serve, gate):
    """What a killed service was drawing is drawn by the next; the list knows it all the while."""
    first = await asyncio.to_thread(serve().wait_ready)
    async with Caller(first) as caller:
        running = await caller.submitted(held(gate))
        await asyncio.to_thread(gate.reached)
        await caller.until(running, lambda job: job["status"] == "running")
        waiting = await caller.submitted()
    await asyncio.to_thread(first.kill)
    gate.open()  # nobody is there any more
    second = await asyncio.to_thread(serve().wait_ready)
    async with Caller(second) as caller:
        jobs = (await caller.get("/jobs")).json()["jobs"]
        assert [job["job_id"] for job in jobs] == [waiting, running]
        assert {job["status"] for job in jobs} <= {"queued", "running"}
        await asyncio.to_thread(gate.reached)
        gate.open()
        job = await caller.ended(running)
        assert (job["status"], job["attempt"]) == ("succeeded", 2)
        assert (await caller.ended(waiting))["status"] == "succeeded"
