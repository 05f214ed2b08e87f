"""A link that stalls in the middle of a call: the call ends with the session, and its caller goes on."""

import asyncio

import pytest

from consumer.connection import Broker, while_alive
from consumer.connection.link import CLOSE_TIMEOUT_S
from consumer.intake import Desk, Intake
from tests.proxy import FrameProxy

CONSUME_OK, CANCEL_OK, DECLARE_OK = (60, 21), (60, 31), (50, 11)
"""AMQP 0-9-1, class and method ids."""


@pytest.fixture
async def proxy(broker):
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        yield proxy


@pytest.fixture
async def tasks():
    """Tasks that end with the test."""
    started = []
    loop = asyncio.get_running_loop()

    class Tasks:
        def create_task(self, work):
            started.append(loop.create_task(work))
            return started[-1]

    yield Tasks()
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


@pytest.fixture
async def link(proxy, tasks):
    link = Broker(proxy.url, "tester")
    link.changed = asyncio.Event()
    link.on_change(link.changed.set)
    return link


def _ignore():
    pass


async def _next_session(link, generation):
    async with asyncio.timeout(30):
        while not (link.connected and link.generation > generation):
            link.changed.clear()
            await link.changed.wait()


@pytest.mark.parametrize("method", [CANCEL_OK, CONSUME_OK], ids=["cancel", "consume"])
async def test_the_taking_can_be_switched_after_a_stall(proxy, link, tasks, method):
    """Whether it was stopping or starting: the switch comes back, and the next session obeys it."""
    desk = Desk(
        None, None, None, None, tasks, 1, "tester", shared_store=True, on_change=_ignore
    )
    intake = Intake(desk)
    link.attach(intake.attach)
    tasks.create_task(link.run())
    await link.wait_connected()
    if method == CONSUME_OK:
        await intake.stop_taking()
    proxy.hold("broker", method)
    switching = tasks.create_task(
        intake.take() if method == CONSUME_OK else intake.stop_taking()
    )
    async with asyncio.timeout(30):
        await proxy.held.wait()
    link.session.lose("the test says so")
    generation = link.generation
    await switching
    assert not intake.taking
    proxy.holding = None
    proxy.released.set()
    await intake.take()
    await _next_session(link, generation)
    assert intake.taking


async def test_a_call_ends_with_its_session(proxy, link, tasks):
    """Who waits for an answer on a session that ended gets a ConnectionError, and is not cancelled."""
    tasks.create_task(link.run())
    await link.wait_connected()
    session = link.session
    channel = await session.consume.channel()
    proxy.hold("broker", DECLARE_OK)
    call = tasks.create_task(
        while_alive(session, channel.declare_queue("imagegen.requests", passive=True))
    )
    await proxy.held.wait()
    session.lose("the test says so")
    with pytest.raises(ConnectionError, match="the session ended"):
        await call


async def test_a_bare_exception_of_the_library_is_a_broken_link(link, proxy, tasks):
    """Who waits for bytes to leave gets one from aiormq; it must not look like a defect of ours."""
    tasks.create_task(link.run())
    await link.wait_connected()

    async def drain():
        raise Exception  # noqa: TRY002 - as aiormq does

    with pytest.raises(ConnectionError, match="the link broke"):
        await while_alive(link.session, drain())


def test_our_limit_comes_before_the_librarys():
    """Two seconds after a close that is not answered aiormq cancels whoever waits."""
    assert CLOSE_TIMEOUT_S < 2
