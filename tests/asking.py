"""Asking over HTTP: a caller of the job API, as a program with an HTTP library would be."""

import asyncio
import contextlib
import json
import os
import re
import ssl
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Gate
from tests.house import House

PATIENCE_S = 30.0
SMALL = {"width": 256, "height": 256}


def name():
    """An id that no other test has."""
    return uuid4().hex


def held(gate):
    """The body of a picture that waits at the gate."""
    return {"prompt": f"wait={gate.path}", **SMALL}


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: to load the authorities of the web takes longer than a test."""


@pytest.fixture
def gate(tmp_path):
    """A gate that keeps nobody when the test is over, however it ended: others need the GPU."""
    gate = Gate(tmp_path / "gate")
    yield gate
    passing = os.open(gate.path, os.O_RDWR)
    gate.path.unlink()
    gate.path.touch()
    os.close(passing)


class Caller:
    """Speaks to one service; each method is a request."""

    def __init__(self, served, **headers):
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{served.port}",
            timeout=PATIENCE_S,
            headers=headers,
            verify=_NO_TLS,
            trust_env=False,
        )

    async def __aenter__(self):
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *problem):
        await self.http.__aexit__(*problem)

    async def generate(self, body, job_id=None, **headers):
        """Have a picture drawn and wait for it."""
        return await self.http.post("/generate", json=body, headers=_headers(job_id, headers))

    async def submit(self, body=None, job_id=None, **headers):
        """Have a picture drawn; returns the answer."""
        body = {"prompt": "x", **SMALL} if body is None else body
        return await self.http.post(
            "/generate/async", json=body, headers=_headers(job_id, headers)
        )

    async def submitted(self, body=None, job_id=None, **headers):
        """Have a picture drawn that must be accepted; returns its id."""
        answer = await self.submit(body, job_id, **headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    async def get(self, path, **headers):
        return await self.http.get(path, headers=_headers(None, headers))

    async def status(self, job_id):
        """Where a job stands."""
        answer = await self.get(f"/job/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, job_id, true):
        """Where a job stands once that is true of it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await self.status(job_id)
                if true(status):
                    return status
                await asyncio.sleep(0.02)

    async def ended(self, job_id):
        """Where a job stands at its end, told by its events."""
        async with self.events(job_id) as events:
            async for event in events:
                last = event
        return last["data"]

    async def cancel(self, job_id):
        return await self.http.delete(f"/job/{job_id}")

    @contextlib.asynccontextmanager
    async def events(self, job_id):
        """The server-sent events of a job, as they come."""
        async with (
            asyncio.timeout(PATIENCE_S),
            self.http.stream("GET", f"/job/{job_id}/events") as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield _parsed(answer.aiter_lines())

    async def counted(self, metric, **labels):
        """The value of a metric; 0 where it was never counted."""
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        series = f"{metric}{{{told}}}" if told else metric
        text = (await self.get("/metrics")).text
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def crowd(self, count):
        """Wait until so many wait for a picture or follow a job."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if await self.counted("imagegen_http_waiting") == count:
                    return
                await asyncio.sleep(0.02)


async def known(caller, job_id):
    """Return once the service knows of a job."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await caller.get(f"/job/{job_id}")).status_code == 200:
                return
            await asyncio.sleep(0.02)


def problem(answer, status, code):
    """The problem that an answer has to be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["code"], told["status"], told["type"]) == (code, status, f"/docs#{code}")
    return told


def _headers(job_id, headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return given if job_id is None else {"Idempotency-Key": job_id, **given}


async def _parsed(lines):
    event = {}
    async for line in lines:
        field, _, value = line.partition(": ")
        if line and field:
            event[field] = json.loads(value) if field == "data" else value
        elif event:
            yield event
            event = {}


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    house = House(broker, folder, HTTP_AMQP_URL=broker.url("imagegen-http"))
    yield house
    house.stop()


@pytest.fixture
def service(house):
    return house.service()


@pytest.fixture
async def caller(service):
    async with Caller(service) as caller:
        yield caller
