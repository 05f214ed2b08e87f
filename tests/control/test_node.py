"""A real private node: what it has, where it listens, what it leaves behind."""

import ipaddress
import json
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from control.loopback import ask, choose_ports, is_free, speaks_amqp
from control.node import RABBITMQ, Node
from control.say import Failure

LISTENING = "0A"
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def only_node(tmp_path_factory):
    """A node in a folder with a blank in its name, bound to 7 requests."""
    node = Node(tmp_path_factory.mktemp("a node"), max_queue_size=7)
    yield node
    node.kill()


@pytest.fixture
def node(only_node):
    """The same one for all, running, whatever became of it before: a boot takes seconds."""
    only_node.ensure_running()
    return only_node


def api(node, path):
    """Return a page of the node's management API, as the admin sees it."""
    answer = ask("GET", f"{node.management_url('admin')}/api/{path}")
    assert answer.status == 200
    return json.loads(answer.body)


def processes(node):
    """Return the processes that were started in the node's name."""
    mine = f"HOME={node._folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (path / "environ").read_bytes().split(b"\0"):
                found.append(path)
        except OSError:
            continue
    return found


def listening(found):
    """Return the addresses and ports on which processes listen."""
    inodes = set()
    for path in found:
        for descriptor in (path / "fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    sockets = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, port = fields[1].split(":")
                words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
                packed = struct.pack(f"={len(words)}I", *words)
                sockets.append((ipaddress.ip_address(packed), int(port, 16)))
    return sockets


def test_our_users_have_our_rights(node):
    """Every user of the repository is there with exactly its rights, and the default one is not."""
    definitions = json.loads((RABBITMQ / "users.json").read_text())
    names = {user["name"] for user in definitions["users"]}
    assert {user["name"] for user in api(node, "users")} == names | {"admin"}
    rights = api(node, "permissions")
    for permission in definitions["permissions"]:
        assert permission in rights


def test_passwords_work_and_are_private(node):
    """A user gets in with its password, which others on the machine cannot read."""
    url = node.management_url("monitoring")
    assert ask("GET", f"{url}/api/whoami").status == 200
    assert ask("GET", f"{url.replace('@', 'x@')}/api/whoami").status == 401
    assert node._folder.stat().st_mode & 0o077 == 0


def test_the_bound_is_the_setting(node):
    """The policy on the requests has the bound that was asked for."""
    policy = api(node, "policies/imagegen/imagegen.requests")
    assert policy["definition"]["max-length"] == 7


def test_a_new_bound_reaches_a_running_node(node):
    """Another size takes effect without a restart, and the node goes on with its ports."""
    other = Node(node._folder, max_queue_size=9)
    other.ensure_running()
    policy = api(node, "policies/imagegen/imagegen.requests")
    assert policy["definition"]["max-length"] == 9
    assert other.amqp_port == node.amqp_port


def test_everything_listens_on_loopback_only(node):
    """AMQP, management, metrics, distribution and the port mapper: five ports, all on loopback."""
    found = listening(processes(node))
    assert all(address.is_loopback for address, _ in found)
    assert {node.amqp_port, node.management_port} < {port for _, port in found}
    assert len({port for _, port in found}) == 5


def test_a_taken_port_is_named(tmp_path, node):
    """A node whose port somebody else has says which and what to do."""
    other = Node(tmp_path)
    ports = {"amqp": node.amqp_port, "management": 1, "prometheus": 1}
    (tmp_path / "node.json").write_text(json.dumps({**ports, "distribution": 1, "epmd": 1}))
    with pytest.raises(Failure) as failure:
        other.ensure_running()
    assert str(node.amqp_port) in failure.value.sentence
    assert "node.json" in failure.value.remedy


def test_a_node_that_cannot_start_tells_its_last_words(tmp_path):
    """A node that ends while it starts is not waited for, and its log is the evidence."""
    node = Node(tmp_path)
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(Failure) as failure:
        node.ensure_running()
    assert failure.value.evidence
    assert "data" in failure.value.remedy
    assert processes(node) == []


def test_ports_are_kept_and_a_preferred_one_is_taken_if_free(tmp_path, node):
    """The preferred port where it is free, another where not, and the same ones ever after."""
    (free,) = choose_ports({"amqp": 0}).values()
    preferred = {"amqp": free, "management": node.management_port}
    first = Node(tmp_path, preferred_ports=preferred)
    assert first.amqp_port == free
    assert first.management_port != node.management_port
    again = Node(tmp_path)
    assert (again.amqp_port, again.management_port) == (free, first.management_port)
    assert again.amqp_url("chat-backend") == first.amqp_url("chat-backend")


def test_a_killed_node_starts_again(node):
    """A node that somebody else killed, its port mapper left alive, comes back on its ports."""
    record = json.loads((node._folder / "process.json").read_text())
    os.killpg(record["pid"], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while node.running() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(node)
    port = node.amqp_port
    node.ensure_running()
    assert node.amqp_port == port
    assert speaks_amqp(port)


def test_a_stop_leaves_nothing_behind(node):
    """After a stop no process of it lives and its ports are free; a second stop does nothing."""
    assert processes(node)
    node.stop()
    assert not node.running()
    deadline = time.monotonic() + PATIENCE_S
    # Helpers of Erlang notice through a closed pipe that they are alone.
    while processes(node) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(node) == []
    assert is_free(node.amqp_port)
    node.stop()
