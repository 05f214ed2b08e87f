"""Several nodes of one broker: when one is lost, service, clients and commands go on at another."""

import asyncio

import pytest

from consumer.doctor import broker as broker_look
from consumer.doctor.broker_verdicts import judge_broker
from consumer.logs import Scrubber
from consumer.parking import opened
from consumer.settings import SettingsError, read_settings
from imagegen_client import ImageClient, nodes
from tests.impostor import in_the_services_place
from tests.proxy import FrameProxy
from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}
TLS = "amqps://me:p@a:5671/v?cafile=/ca.pem"
A, B, C = (f"amqp://me:p@{name}:5672/v" for name in "abc")


class TwoNodes:
    """Two doors to one broker; who is connected came through one of them."""

    def __init__(self, first, second):
        self.doors = first, second

    @property
    def urls(self):
        return ", ".join(door.url for door in self.doors)

    def lose_the_one_in_use(self):
        """Close the door through which somebody came, for good; returns the other one."""
        used, other = sorted(self.doors, key=lambda door: not door._writers)
        assert not other._writers, "both are in use"
        used.refuse()
        used.cut()
        return other


@pytest.fixture
async def open_nodes(broker):
    """Make two doors for a user."""
    made = []

    async def make(user):
        made.extend([FrameProxy(broker.url(user)), FrameProxy(broker.url(user))])
        for door in made:
            await door.__aenter__()
        return TwoNodes(*made)

    yield make
    for door in made:
        await door.__aexit__()


# ---------------------------------------------------------------- how they are told


@pytest.mark.parametrize(
    ("told", "urls"),
    [
        (A, (A,)),
        (f"{A},{B}", (A, B)),
        (f" {A} ,\n {B},amqps://me@c/v ", (A, B, "amqps://me@c/v")),
        ("amqp://me:pass,word@a/v", ("amqp://me:pass,word@a/v",)),
    ],
)
def test_commas_part_the_nodes(told, urls):
    """A comma parts two URLs, with or without space; one in a password parts nothing."""
    assert nodes.nodes_in(told) == urls


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ((A, B), None),
        ((A, "amqps://me:other@b/v"), None),
        (("http://me:p@a/v",), "no amqp://"),
        ((A, "b:5672"), "no amqp://"),
        (("amqp://me:p@a:5672,b:5672/v",), "no amqp://"),
        (("amqp://me:p@a,b/v",), "no amqp://"),
        (("amqp:///v",), "no amqp://"),
        (("amqp://me:p@a..b/v",), "no amqp://"),
        (("amqp://me:p@[::1]:5672/v", "amqp://me:p@rabbit_1./v"), None),
        ((A, "amqp://me:p@b/other"), "one broker"),
        ((A, "amqp://you:p@b/v"), "one broker"),
        ((TLS,), None),
        ((f"{TLS}&no_verify_ssl=1", f"{TLS}&no_verify_ssl=0"), None),
        ((TLS, f"{TLS}&no_verify_ssl=false"), "neither 0 nor 1"),
        ((f"{TLS}&no_verify_ssl=",), "neither 0 nor 1"),
        ((TLS.replace("amqps", "amqp"),), "everything goes readable"),
    ],
)
def test_nodes_that_are_not_those_of_one_broker_are_told(urls, said):
    """Same user and vhost everywhere; a list that is meant otherwise is not taken for one host.

    Nor is TLS taken off silently: aiormq verifies nobody with any `no_verify_ssl` but 0.
    """
    told = nodes.disagreement(urls)
    assert told is said is None or said in told


def test_every_node_has_its_turn_before_the_wait_grows():
    """Three nodes: all have a turn in a round; a session that stood begins another round."""
    turns = nodes.Nodes((A, B, C))
    first = []
    for last in (False, False, True):
        first.append(turns.current)
        assert turns.pass_on() is last
    assert sorted(first) == [A, B, C]
    assert turns.current == first[0]
    assert turns.pass_on() is False
    turns.stood()
    assert [turns.pass_on() for _ in range(3)] == [False, False, True]


def test_a_fleet_with_one_setting_begins_at_different_nodes():
    """Who begins where is left to chance: of 60, each node has some."""
    begins = {nodes.Nodes((A, B, C)).current for _ in range(60)}
    assert begins == {A, B, C}


def test_the_settings_refuse_nodes_of_two_brokers(tmp_path):
    """The sentence names the variable and no password."""
    told = "amqp://me:secret@a/v,amqp://me:secret@b/w"
    with pytest.raises(SettingsError) as caught:
        read_settings({"IMAGE_GEN_AMQP_URL": told}, tmp_path)
    (sentence,) = caught.value.sentences
    assert sentence.startswith("IMAGE_GEN_AMQP_URL names nodes with different users or vhosts")
    assert "secret" not in sentence


def test_the_client_refuses_what_is_no_broker():
    """Before anything is dialled."""
    with pytest.raises(ValueError, match="different users or vhosts"):
        ImageClient([A, "amqp://me:p@b/other"])


def test_no_password_of_any_node_is_logged():
    """They may differ while one is changed."""
    told = "amqp://me:first-secret@a/v,amqp://me:other-secret@b/v"
    scrubbed = Scrubber([told]).text("it said first-secret and other-secret")
    assert "secret" not in scrubbed


# ---------------------------------------------------------------- when one is lost


async def test_the_service_goes_on_at_the_next_node(serve, channel, open_nodes, gate):
    """The node is lost in the middle of a picture: it is sent by way of the other, drawn once."""
    nodes = await open_nodes("imagegen-consumer")
    service = serve(AMQP_URL=nodes.urls)
    await asyncio.to_thread(service.wait_ready)
    requester = await Requester(channel).start()
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="moved")
    await asyncio.to_thread(gate.reached)
    other = nodes.lose_the_one_in_use()
    await asyncio.to_thread(service.wait, "broker_connected", count=2)
    assert other._writers
    gate.open()
    reply = await requester.reply()
    assert reply.type == "imagegen.result.v1"
    assert [r["event"] for r in service.records].count("started") == 1


async def test_the_client_goes_on_at_the_next_node(broker, open_nodes):
    """Its durable reply queue is read there: what was asked for before the loss is answered."""
    nodes = await open_nodes("chat-backend")
    async with in_the_services_place(broker) as impostor, ImageClient(nodes.urls) as client:
        asking = asyncio.get_running_loop().create_task(client.generate("x", job_id="moved"))
        request = await impostor.request()
        other = nodes.lose_the_one_in_use()
        await impostor.draw(request)
        assert (await asking).seed == 1
        assert other._writers


async def test_the_parking_commands_use_a_node_that_is_there(broker, unused_tcp_port):
    """The first is down: the next one tells what is parked."""
    up = broker.url("imagegen-consumer")
    down = up.replace(f":{broker.node.amqp_port}/", f":{unused_tcp_port}/")
    async with opened(f"{down},{up}") as parking:
        assert parking is not None


def test_the_doctor_tells_which_nodes_do_not_answer(broker, unused_tcp_port):
    """It examines one that is there, and warns of the other."""
    up = broker.url("imagegen-consumer")
    down = up.replace(f":{broker.node.amqp_port}/", f":{unused_tcp_port}/")
    found = broker_look.look(f"{down},{up}", "consumer", 1 << 20)
    verdict = judge_broker(found)
    assert (found.lock, verdict.level) == (None, "warn")
    assert f"nobody answers at 127.0.0.1:{unused_tcp_port}." in verdict.finding
