"""The fixtures: one real RabbitMQ for all tests, real services, plain AMQP connections."""

import contextlib
import json
import os
import socket
import time
import urllib.parse
import urllib.request
from base64 import b64encode

import aio_pika
import hypothesis
import pika
import pytest

from control import loopback
from control.node import Node
from tests import diffusing
from tests.house import House
from tests.serving import Served

VHOST = "imagegen"


PORTS_A_WORKER = 2_000
"""Of the 12,000 from which brokers take theirs."""


# torch's threads wait for each other by turning: beside another worker that costs half the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# A machine that others use is slow, which is no fault of what is tested.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


def pytest_xdist_auto_num_workers(config):
    """Two for the whole suite, on a single core as well, as it waits more than it works.

    Tests that were named run here: they may be debugged, and two brokers take longer to boot.
    """
    return 2 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.fixture(scope="session", autouse=True)
def own_ports(request):
    """Keep the workers' brokers apart: a port that one found free is not taken by another."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    first = loopback._PORTS.start + PORTS_A_WORKER * (int(name.removeprefix("gw")) % 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loopback, "_PORTS", range(first, first + PORTS_A_WORKER))
        yield


class Broker:
    """A real RabbitMQ with our definitions, and its management API."""

    def __init__(self, node):
        self.node = node

    def url(self, user="chat-backend"):
        return self.node.amqp_url(user)

    def api(self, path, method="GET", body=None):
        parts = urllib.parse.urlsplit(self.node.management_url("admin"))
        token = b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{parts.hostname}:{parts.port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def waiting(self):
        """How many requests wait. Asked over AMQP: the API's count is seconds old."""
        with contextlib.closing(
            pika.BlockingConnection(pika.URLParameters(self.url("admin")))
        ) as connection:
            asked = connection.channel().queue_declare("imagegen.requests", passive=True)
        return asked.method.message_count

    def purge(self):
        for queue in ("imagegen.requests", "imagegen.expired", "imagegen.parking"):
            self.api(f"queues/{VHOST}/{queue}/contents", "DELETE")


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("rabbitmq"))
    node.ensure_running()
    yield Broker(node)
    node.kill()


@pytest.fixture(scope="session")
def random_model(tmp_path_factory):
    """The folder of a tiny model with random weights, which draws textures quickly."""
    from bench.random_model import write_random

    return write_random(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture
def serve(broker, tmp_path):
    """Start services; they get the scripted pipeline and a store of their own unless told."""
    broker.purge()
    started = []

    def start(**settings):
        defaults = {
            "AMQP_URL": broker.url("imagegen-consumer"),
            "HTTP_AMQP_URL": broker.url("imagegen-http"),
            "PORT": 0,
            "DATA_DIR": tmp_path / "data",
            "STORE_URL": f"sqlite:///{tmp_path / 'jobs.sqlite'}",
            "MODEL": "scripted",
            "WORKER_NAME": "tester",
            "LOG_FORMAT": "json",
            "PIPELINE": "tests.pipelines:Scripted",
        }
        served = Served({**defaults, **settings})
        started.append(served)
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
        if not served.process.stderr.closed:
            served.end()


@pytest.fixture
def service(serve):
    """A ready service with the scripted pipeline."""
    return serve().wait_ready()


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    """Services that the tests of a file share, one at a time: see there."""
    house = House(broker, tmp_path_factory.mktemp("house"))
    yield house
    house.stop()


@pytest.fixture
async def channel(broker):
    """A channel of the chat backend's, with confirms."""
    connection = await aio_pika.connect(broker.url())
    async with connection:
        yield await connection.channel()


class Gate:
    """A FIFO at which the scripted pipeline waits, told by `wait=PATH` in its prompt."""

    PATIENCE_S = 60.0

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self._hold = None

    def reached(self):
        """Return once a pipeline waits at the gate; it stays there until `open`."""
        until = time.monotonic() + self.PATIENCE_S
        while self._hold is None:
            try:
                self._hold = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                assert time.monotonic() < until, "no pipeline came to the gate"
                time.sleep(0.01)

    def open(self):
        """Let it go on."""
        os.close(self._hold)
        self._hold = None


@pytest.fixture
def gate(tmp_path):
    """A gate for the scripted pipeline."""
    return Gate(tmp_path / "gate")


@pytest.fixture(scope="session")
def new_pipeline(random_model):
    """Load a model into a pipeline of this process: the random one, unless another is wanted."""
    from consumer.gpu.diffusion import DiffusionPipeline

    def new(wanted=None):
        made = DiffusionPipeline()
        ready = made.load(wanted or diffusing.load(str(random_model)), diffusing.ignore)
        return made, ready

    return new


@pytest.fixture(scope="session")
def loaded(new_pipeline):
    return new_pipeline()


@pytest.fixture(scope="session")
def pipeline(loaded):
    """The random model, which no test changes."""
    return loaded[0]


@pytest.fixture
def forbid_network(monkeypatch):
    """Make every way out an error."""

    def forbidden(*arguments, **_):
        raise ConnectionRefusedError(f"a test reached for the network: {arguments!r}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
