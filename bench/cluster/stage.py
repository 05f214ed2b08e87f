"""The stage: three brokers, one database, two consumers and clients that know all nodes; gone afterwards."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from bench.chaos.admin import REQUESTS, Admin
from bench.chaos.cluster import ClusterNode, cluster
from bench.chaos.pipelines import WORK
from bench.chaos.work import Records
from tests.postgres import Postgres
from tests.serving import Served

CONSUMERS = ("ada", "bob")
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.2


class Stage:
    """What a run works with. Use `opened`."""

    def __init__(self, folder: Path, nodes: list[ClusterNode], store_url: str) -> None:
        self._folder = folder
        self.nodes = {node.name: node for node in nodes}
        self._store_url = store_url
        self.consumers: list[Served] = []
        self.records = Records(folder / name / WORK for name in CONSUMERS)

    def urls(self, user: str) -> str:
        """Return the URLs of all nodes, as a setting has them."""
        return ",".join(node.amqp_url(user) for node in self.nodes.values())

    def start(self) -> None:
        """Start the consumers, and return when they consume."""
        for name in CONSUMERS:
            self.consumers.append(self._consumer(name))
        for consumer in self.consumers:
            consumer.wait_ready()

    def stop(self) -> list[int]:
        """Stop the consumers; returns their exit codes. May be called twice."""
        consumers, self.consumers = self.consumers, []
        return [consumer.stop() for consumer in consumers]

    def _consumer(self, name: str) -> Served:
        return Served(
            {
                "AMQP_URL": self.urls("imagegen-consumer"),
                "HTTP_AMQP_URL": self.urls("imagegen-http"),
                "PORT": 0,
                "DATA_DIR": self._folder / name,
                "STORE_URL": self._store_url,
                "MODEL": "scripted",
                "PIPELINE": "bench.chaos.pipelines:Chaotic",
                "WORKER_NAME": name,
                "LOG_FORMAT": "json",
                "MAX_CONCURRENT": 2,
            }
        )

    # ------------------------------------------------------------ the cluster

    def admin(self, without: str = "") -> Admin:
        """Return the admin of a node that is not the one named."""
        node = next(node for name, node in self.nodes.items() if name != without)
        return Admin(node.management_url("admin"), node.amqp_url("admin"))

    async def leader(self, without: str = "") -> str:
        """Return the node that leads the queue of requests; not the one named, which is dead."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = (await self.admin(without).queue(REQUESTS)).get("leader", "")
                if told and told != without:
                    return str(told)
                await asyncio.sleep(LOOK_EVERY_S)

    async def whole(self) -> None:
        """Return when every node runs and is a member of the queue that is up to date."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if len(await self._online()) == len(self.nodes):
                    return
                await asyncio.sleep(LOOK_EVERY_S)

    async def _online(self) -> list[str]:
        queue: dict[str, Any] = await self.admin().queue(REQUESTS)
        return [str(name) for name in queue.get("online", ())]

    async def connections(self, without: str = "") -> dict[str, int]:
        """Return how many of services and clients are at which node."""
        told = await self.admin(without).ask("connections") or []
        return dict(
            Counter(each["node"] for each in told if not _is_of_the_bench(each)),
        )


def _is_of_the_bench(connection: dict[str, Any]) -> bool:
    name = connection.get("client_properties", {}).get("connection_name", "")
    return str(name).startswith("chaos")


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Stage]:
    """Have three nodes that agree, a database and consumers, and leave nothing of them behind."""
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="imagegen-cluster-"))
        store_url = stack.enter_context(_database())
        started = cluster(Path(name) / "rabbitmq")
        nodes = await asyncio.to_thread(stack.enter_context, started)
        stage = Stage(Path(name), nodes, store_url)
        stack.callback(stage.stop)
        await stage.whole()
        await asyncio.to_thread(stage.start)
        yield stage


@contextlib.contextmanager
def _database() -> Iterator[str]:
    server = Postgres()
    try:
        with server.database() as url:
            yield url
    finally:
        server.end()
