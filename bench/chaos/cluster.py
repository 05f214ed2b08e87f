"""The cluster: three nodes on loopback with one port mapper, and the quorum profile."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import override

from bench.chaos.nodes import ForgetfulNode
from control import loopback
from control.state import write_private

NAMES = ("one", "two", "three")
EPMD_GONE_S = 10.0
PORTS = ("amqp", "management", "prometheus", "distribution")


class ClusterNode(ForgetfulNode):
    """A node that finds the others by name."""

    definitions_file = "definitions.cluster.json"

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = f"{name}@localhost"

    @override
    def _configuration(self) -> dict[str, str]:
        peers = {
            f"cluster_formation.classic_config.nodes.{number}": f"{name}@localhost"
            for number, name in enumerate(NAMES, 1)
        }
        backend = {"cluster_formation.peer_discovery_backend": "classic_config"}
        return super()._configuration() | peers | backend

    @override
    def _write_files(self, topology: str) -> None:
        """Leave the queues out: a quorum queue takes as members the nodes that are there."""
        without = json.loads(topology) | {"queues": [], "bindings": []}
        super()._write_files(json.dumps(without, indent=1))

    def declare_queues(self) -> None:
        """Import everything, when all nodes are there."""
        self.ensure_running()

    @override
    def _own_ports(self) -> dict[str, int]:
        return {name: port for name, port in self._ports().items() if name != "epmd"}

    @override
    def _end_epmd(self) -> None:
        """Leave it to the others: it is the cluster's."""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[list[ClusterNode]]:
    """Start three nodes, and leave nothing of them behind."""
    chosen = loopback.choose_ports(
        {"epmd": 0, **{f"{name} {port}": 0 for name in NAMES for port in PORTS}}
    )
    cookie = secrets.token_hex(16)
    nodes = [_prepared(folder / name, name, cookie, chosen) for name in NAMES]
    try:
        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(ClusterNode.ensure_running, nodes))
        nodes[0].declare_queues()
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        until = time.monotonic() + EPMD_GONE_S
        while not loopback.end_epmd(chosen["epmd"]) and time.monotonic() < until:
            time.sleep(0.05)


def _prepared(folder: Path, name: str, cookie: str, chosen: dict[str, int]) -> ClusterNode:
    """Lay down what the nodes have in common: port mapper, cookie, passwords."""
    folder.mkdir(parents=True)
    ports = {port: chosen[f"{name} {port}"] for port in PORTS} | {"epmd": chosen["epmd"]}
    write_private(folder / "node.json", json.dumps(ports))
    write_private(folder / ".erlang.cookie", cookie)
    (folder / ".erlang.cookie").chmod(0o400)
    first = folder.parent / NAMES[0] / "secrets.json"
    if name != NAMES[0]:
        write_private(folder / "secrets.json", first.read_text())
    node = ClusterNode(folder, name)
    node.amqp_url("admin")  # has passwords made where there are none
    return node
