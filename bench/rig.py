"""The rig: a private RabbitMQ and a service of ours before it, both gone afterwards."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from control.node import Node
from tests.serving import Served


@dataclass(frozen=True, slots=True)
class Rig:
    """What a bench works with."""

    url: str
    """With which a caller reaches the broker."""
    data_dir: Path
    """Of the service; its pipeline knows it too."""
    served: Served


@contextlib.contextmanager
def rig(**settings: object) -> Iterator[Rig]:
    """Start a broker and a service with these settings (without their prefix), and end both."""
    with tempfile.TemporaryDirectory(prefix="imagegen-bench-") as name:
        folder = Path(name)
        node = Node(folder / "rabbitmq")
        node.ensure_running()
        try:
            with _served(node, folder / "data", settings) as served:
                yield Rig(node.amqp_url("chat-backend"), folder / "data", served)
        finally:
            node.kill()


@contextlib.contextmanager
def _served(node: Node, data_dir: Path, settings: dict[str, object]) -> Iterator[Served]:
    defaults = {
        "AMQP_URL": node.amqp_url("imagegen-consumer"),
        "PORT": 0,
        "DATA_DIR": data_dir,
        "LOG_FORMAT": "json",
    }
    served = Served(defaults | settings)
    try:
        yield served.wait_ready()
    finally:
        served.stop()
