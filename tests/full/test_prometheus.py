"""A real Prometheus scrapes a service under load, and every panel of the dashboard has something to show."""

import asyncio
import contextlib
import math

import pytest

from consumer.metrics import READINGS
from imagegen_client import ImageClient
from tests.prometheus import Prometheus, expressions, panels

AT_ONCE = 4


@contextlib.asynccontextmanager
async def load(url):
    """Keep four jobs under way."""

    async def draw(client, seed):
        while True:
            await client.generate("step=0.02", width=512, height=512, seed=seed)

    async with ImageClient(url) as client, asyncio.TaskGroup() as tasks:
        drawing = [tasks.create_task(draw(client, seed)) for seed in range(AT_ONCE)]
        yield
        for task in drawing:
            task.cancel()


@pytest.fixture
def busy(serve):
    """A service that may have four jobs in hand."""
    return serve(MAX_CONCURRENT=AT_ONCE).wait_ready()


@pytest.fixture
def prometheus(busy, tmp_path):
    server = Prometheus(tmp_path / "prometheus", f"127.0.0.1:{busy.port}")
    yield server
    server.stop()


def unread(expression):
    """Whether it shows a reading of the GPU: NaN, as the scripted pipeline has none."""
    return any(f"imagegen_{gauge}{{" in expression for gauge in READINGS.values())


def finite(found):
    return any(math.isfinite(value) for _, value in found)


async def test_every_query_of_the_dashboard_returns_data_under_load(busy, prometheus, broker):
    """No panel is empty while the service works, and the numbers are numbers."""
    async with load(broker.url()):
        await asyncio.to_thread(busy.get, "/job/nobody")  # so that the job API has been asked
        for panel in panels():
            for expression, _ in expressions(panel):
                holds = bool if unread(expression) else finite
                await asyncio.to_thread(prometheus.wait_for, expression, holds)


async def test_no_alert_fires_under_load(busy, prometheus, broker):
    """A service that works is not complained of, and every rule can be evaluated."""
    async with load(broker.url()):
        await asyncio.to_thread(
            prometheus.wait_for, "job:imagegen_requests:increase15m > 10", bool
        )
        rules = await asyncio.to_thread(prometheus.rules)
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


async def test_a_stopped_service_is_told_of(busy, prometheus):
    """Prometheus itself turns silence into the alert."""
    assert await asyncio.to_thread(busy.stop) == 0
    pending = 'ALERTS{alertname="ImagegenDown", alertstate="pending"}'
    assert await asyncio.to_thread(prometheus.wait_for, pending)
