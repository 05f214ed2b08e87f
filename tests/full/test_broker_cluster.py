"""The cluster's table on three real nodes: compared, and its bound changed while requests wait."""

import asyncio

import aio_pika
import pytest

from bench.chaos.cluster import cluster
from tests.command_line import CommandLine
from tests.conftest import Broker

SAME = "The broker is as the table says.\n"
SLACK = 120
"""Publishes by which a quorum queue has refused one at the latest: its bound is soft."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def command(nodes, tmp_path, monkeypatch):
    """`imagegen topology`, asking the node of this number."""
    monkeypatch.chdir(tmp_path)

    def run(node, *arguments):
        url = nodes[node].management_url("admin")
        line = CommandLine(tmp_path, AMQP_URL=nodes[0].amqp_url("admin"), MANAGEMENT_URL=url)
        ran = line.here("topology", *arguments)
        return ran.returncode, ran.stdout

    return run


@pytest.fixture
async def requests(nodes):
    """The requests of the cluster: publishes with confirms, and what waits."""
    async with await aio_pika.connect(nodes[0].amqp_url("admin")) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("imagegen.requests")
        yield channel, queue
        await queue.purge()


async def publish(channel, number):
    """Publish one after the other; returns how many were taken before the first was refused."""
    exchange = await channel.get_exchange("imagegen", ensure=False)
    for count in range(number):
        message = aio_pika.Message(b"{}", message_id=str(count), delivery_mode=2)
        try:
            await exchange.publish(message, "imagegen.requests")
        except aio_pika.exceptions.DeliveryError:
            return count
    return number


def test_the_cluster_is_recognised_and_as_the_table_says(nodes, command):
    """Every node tells of quorum queues on all three, and no difference, of rights either."""
    for node in range(3):
        assert command(node, "check") == (0, SAME)
    queue = Broker(nodes[0]).api("queues/imagegen/imagegen.requests")
    assert len(queue["members"]) == 3
    assert command(0, "check", "--single")[0] == 1


async def test_the_bound_is_changed_and_nothing_that_waits_is_dropped(command, requests):
    """20 to 50 by one node and back by another; all 50 that wait then are there."""
    channel, queue = requests
    assert await publish(channel, 20) == 20
    assert await publish(channel, SLACK) < SLACK
    await queue.purge()
    raised = await asyncio.to_thread(command, 1, "apply", "--max-queue-size", "50")
    assert raised == (0, f"policy imagegen.requests set\n{SAME}")
    assert await publish(channel, 50) == 50
    lowered = await asyncio.to_thread(command, 2, "apply", "--max-queue-size", "20")
    assert lowered == (0, f"policy imagegen.requests set\n{SAME}")
    assert await publish(channel, SLACK) < SLACK
    taken = [await queue.get(no_ack=True) for _ in range(50)]
    assert [message.message_id for message in taken] == [str(number) for number in range(50)]
