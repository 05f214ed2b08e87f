"""The fleet: a broker, a database, and so many consumers on one queue and one store; gone afterwards."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.scaling.meter import Meter
from control.node import Node
from tests.postgres import Postgres
from tests.serving import Served


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a run works with."""

    url: str
    """With which callers reach the broker."""
    consumers: list[Served]
    meter: Meter


class House:
    """The broker and the database that the fleets of all runs use, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._node = Node(folder / "rabbitmq", 100)
        self._postgres: Postgres | None = None

    def open(self) -> None:
        """Start both."""
        self._node.ensure_running()
        self._postgres = Postgres(connections=200)

    def close(self) -> None:
        """End both. May be called without a start."""
        self._node.kill()
        if self._postgres is not None:
            self._postgres.end()

    @contextlib.contextmanager
    def fleet(self, count: int, jobs_in_hand: int) -> Iterator[Fleet]:
        """Have so many consumers that are ready, with an empty store."""
        assert self._postgres is not None  # noqa: S101 - opened before
        with self._postgres.database() as store_url:
            consumers = [
                self._start(f"gpu-{number}", store_url, jobs_in_hand)
                for number in range(1, count + 1)
            ]
            try:
                for consumer in consumers:
                    consumer.wait_ready()
                meter = self._meter(store_url, consumers)
                yield Fleet(self._node.amqp_url("chat-backend"), consumers, meter)
            finally:
                for consumer in consumers:
                    consumer.stop()

    def _start(self, name: str, store_url: str, jobs_in_hand: int) -> Served:
        return Served(
            {
                "AMQP_URL": self._node.amqp_url("imagegen-consumer"),
                "HTTP_AMQP_URL": self._node.amqp_url("imagegen-http"),
                "PORT": 0,
                "DATA_DIR": self._folder / name,
                "STORE_URL": store_url,
                "MODEL": "simulated",
                "PIPELINE": "bench.pipelines:Simulated",
                "WORKER_NAME": name,
                "LOG_FORMAT": "json",
                "MAX_CONCURRENT": jobs_in_hand,
                "MAX_QUEUE_SIZE": 100,
            }
        )

    def _meter(self, store_url: str, consumers: list[Served]) -> Meter:
        assert self._postgres is not None  # noqa: S101 - opened before
        server, _, database = store_url.rpartition("/")
        meter = Meter(self._node.management_url("admin"), f"{server}/postgres", database)
        broker = json.loads((self._folder / "rabbitmq" / "process.json").read_text())
        meter.groups = {
            "consumers": [consumer.process.pid for consumer in consumers],
            "broker": [broker["pid"]],
            "database": [self._postgres.pid],
        }
        return meter


def imports_torch(consumers: list[Served]) -> bool:
    """Tell whether any process of them has torch's libraries in its memory."""
    for consumer in consumers:
        process = psutil.Process(consumer.process.pid)
        for each in (process, *process.children(recursive=True)):
            if "libtorch" in Path(f"/proc/{each.pid}/maps").read_text():
                return True
    return False


@contextlib.contextmanager
def opened() -> Iterator[House]:
    """Have a house, and leave nothing of it behind."""
    with tempfile.TemporaryDirectory(prefix="imagegen-scaling-") as name:
        house = House(Path(name))
        try:
            house.open()
            yield house
        finally:
            house.close()
