"""The provision on a real broker: what is declared, compared and refused."""

import asyncio
from uuid import uuid4

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from consumer import topology
from consumer.errors import EXIT_CONFIG, StartRefusedError
from consumer.provision import Provision
from tests.conftest import VHOST

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


class Blank:
    """A vhost of its own with nothing on it, where some users may do everything."""

    def __init__(self, broker):
        self.name = f"test {uuid4()}"
        self.path = self.name.replace(" ", "%20")
        self._broker = broker

    def url(self, user="admin"):
        return f"{self._broker.url(user).rpartition('/')[0]}/{self.path}"

    def create(self):
        self._broker.api(f"vhosts/{self.path}", "PUT", {})
        for user in ("admin", "imagegen-consumer"):
            self._broker.api(f"permissions/{self.path}/{user}", "PUT", EVERYTHING)

    def delete(self):
        self._broker.api(f"vhosts/{self.path}", "DELETE")


@pytest.fixture
def blank(broker):
    blank = Blank(broker)
    blank.create()
    yield blank
    blank.delete()


@pytest.fixture
async def connection(blank):
    connection = await aio_pika.connect(blank.url())
    async with connection:
        yield connection


@pytest.fixture
async def ours(broker):
    """Our own vhost, as the service's user."""
    connection = await aio_pika.connect(broker.url("imagegen-consumer"))
    async with connection:
        yield connection


def provision(mode, vhost=VHOST, management_url=None, bound=20):
    return Provision(mode, bound, vhost, management_url)


async def refusal(work):
    with pytest.raises(StartRefusedError) as caught:
        await work
    assert caught.value.exit_code == EXIT_CONFIG
    return caught.value.sentences


async def missing(connection):
    """Return which of our objects are not there."""
    names = []
    for name in sorted(topology.OWN_OBJECTS):
        for kind in ("exchange", "queue"):
            listed = topology.EXCHANGES if kind == "exchange" else topology.queues(20)
            if name not in {thing.name for thing in listed}:
                continue
            channel = await connection.channel()
            try:
                await getattr(channel, f"declare_{kind}")(name, passive=True)
            except ChannelNotFoundEntity:
                names.append(name)
    return names


# ---------------------------------------------------------------- a blank vhost


async def test_auto_declares_everything_that_is_missing(connection):
    """On a blank vhost each object is declared and told of; the second time there is nothing."""
    told = await provision("auto").apply(connection)
    assert len(told) == 7
    assert all("was declared" in sentence for sentence in told)
    assert await missing(connection) == []
    assert await provision("auto").apply(connection) == []


@pytest.mark.parametrize("managed", [False, True], ids=["arguments", "policies"])
async def test_what_auto_declares_is_bounded_exactly(connection, blank, broker, managed):
    """100 confirmed publishes over 10 channels: 20 are taken and 80 refused to their publishers."""
    management_url = broker.node.management_url("admin") if managed else None
    await provision("auto", blank.name, management_url).apply(connection)
    if managed:
        await asyncio.to_thread(_policy_in_force, broker, blank, "max-length", 20)
    channels = [await connection.channel() for _ in range(10)]

    async def publish(index):
        exchange = await channels[index % 10].get_exchange("imagegen", ensure=False)
        message = aio_pika.Message(b"{}", message_id=str(index), delivery_mode=2)
        try:
            await exchange.publish(message, "imagegen.requests")
        except aio_pika.exceptions.DeliveryError:
            return "refused"
        return "taken"

    words = await asyncio.gather(*(publish(index) for index in range(100)))
    assert (words.count("taken"), words.count("refused")) == (20, 80)


async def test_what_expires_reaches_the_dead_letters(connection):
    """A request that runs out in a queue that `auto` declared is not lost."""
    await provision("auto").apply(connection)
    channel = await connection.channel()
    dead = asyncio.Queue()
    queue = await channel.get_queue("imagegen.expired", ensure=False)
    await queue.consume(dead.put, no_ack=True)
    exchange = await channel.get_exchange("imagegen", ensure=False)
    await exchange.publish(aio_pika.Message(b"late", expiration=0.001), "imagegen.requests")
    async with asyncio.timeout(30):
        assert (await dead.get()).body == b"late"


async def test_check_on_a_blank_vhost_refuses_and_touches_nothing(connection):
    """Each missing object has its sentence, and the last one is the remedy."""
    sentences = await refusal(provision("check").apply(connection))
    assert sentences[:-1] == (
        *(f"The exchange {exchange.name} is missing." for exchange in topology.EXCHANGES),
        *(f"The queue {queue.name} is missing." for queue in topology.queues(20)),
    )
    assert "rabbitmq/definitions.json" in sentences[-1]
    assert await missing(connection) == sorted(topology.OWN_OBJECTS)


async def test_a_service_that_may_only_check_does_not_start_on_a_blank_vhost(serve, blank):
    """The sentences stand in its log, and the exit code says: a restart will not help."""
    served = serve(AMQP_URL=blank.url("imagegen-consumer"), TOPOLOGY="check")
    assert await asyncio.to_thread(served.end) == EXIT_CONFIG
    assert served.wait("start_refused")["problem"] == "The exchange imagegen is missing."
    assert served.wait("start_refused", count=8)["problem"].startswith("Load ")


# ---------------------------------------------------------------- our own vhost


@pytest.mark.parametrize("mode", ["auto", "check"])
@pytest.mark.parametrize("managed", [False, True], ids=["rights", "management"])
async def test_nothing_is_said_of_what_is_in_order(ours, broker, mode, managed):
    """With our definitions loaded, the service's user finds no difference in any mode that looks."""
    management_url = broker.node.management_url("monitoring") if managed else None
    assert await provision(mode, VHOST, management_url).apply(ours) == []


async def test_declare_without_the_right_to_says_what_is_so(ours):
    """Our user may not declare: what is there is used, and is not said to be missing."""
    told = await provision("declare").apply(ours)
    assert len(told) == 7
    for sentence in told:
        assert "is there" in sentence
        assert "our user may not declare it" in sentence


# ---------------------------------------------------------------- differences


async def test_declare_refuses_a_queue_that_is_another(connection):
    """A queue with another bound is not used as if it were ours."""
    channel = await connection.channel()
    arguments = {**topology.declare_arguments(topology.queues(20)[0]), "x-max-length": 7}
    await channel.declare_queue("imagegen.requests", durable=True, arguments=arguments)
    sentences = await refusal(provision("declare").apply(connection))
    assert "The queue imagegen.requests is there, but not as the table says" in sentences[0]
    assert "max-length" in sentences[0]
    assert "IMAGE_GEN_TOPOLOGY=auto" in sentences[1]


async def test_declare_refuses_an_exchange_that_is_another(connection):
    """An exchange of another type would route requests elsewhere, or nowhere."""
    channel = await connection.channel()
    await channel.declare_exchange("imagegen", "fanout", durable=True)
    sentences = await refusal(provision("declare").apply(connection))
    assert "The exchange imagegen is there, but not as the table says" in sentences[0]


async def test_declare_may_be_said_again(connection):
    """What `declare` declared is what it wants to see."""
    for _ in range(2):
        assert len(await provision("declare").apply(connection)) == 7


async def test_what_an_operator_set_since_is_left_as_it_is(connection, blank, broker):
    """A bound that was raised and a longer parking stay: `declare` is said at every reconnect."""
    management_url = broker.node.management_url("admin")
    await provision("auto", blank.name, management_url).apply(connection)
    raised = {"imagegen.requests": 50, "imagegen.parking": 5000}
    for name, most in raised.items():
        _raise(broker, blank, name, most)
    await provision("declare", blank.name, management_url).apply(connection)
    assert _bounds(broker, blank).items() >= raised.items()


async def test_a_policy_that_waits_for_its_queue_is_left_as_it_is(connection, blank, broker):
    """A queue that was deleted comes back under the bound that an operator gave it."""
    management_url = broker.node.management_url("admin")
    await provision("auto", blank.name, management_url).apply(connection)
    _raise(broker, blank, "imagegen.requests", 50)
    broker.api(f"queues/{blank.path}/imagegen.requests", "DELETE")
    told = await provision("auto", blank.name, management_url).apply(connection)
    assert "its limits are a policy" in told[0]
    assert _bounds(broker, blank)["imagegen.requests"] == 50


async def test_a_refusal_changes_no_policy(connection, blank, broker):
    """A cluster's policies keep the limit of deliveries, without which 4.x drops what is looked at."""
    policies = topology.definitions(20, cluster=True)["policies"]
    for policy in policies:
        body = {**policy, "vhost": blank.name}
        broker.api(f"policies/{blank.path}/{policy['name']}", "PUT", body)
    channel = await connection.channel()
    for queue in topology.queues(20):
        quorum = {"x-queue-type": "quorum"}
        await channel.declare_queue(queue.name, durable=True, arguments=quorum)
    management_url = broker.node.management_url("admin")
    await refusal(provision("declare", blank.name, management_url).apply(connection))
    assert _definitions(broker, blank) == {
        each["name"]: each["definition"] for each in policies
    }


def _raise(broker, blank, name, most):
    """Set a queue's policy as the table has it, with another number of messages."""
    (queue,) = (queue for queue in topology.queues(20) if queue.name == name)
    policy = topology.policy(queue)
    policy |= {"vhost": blank.name, "definition": {**queue.limits, "max-length": most}}
    broker.api(f"policies/{blank.path}/{name}", "PUT", policy)


def _definitions(broker, blank):
    return {one["name"]: one["definition"] for one in broker.api(f"policies/{blank.path}")}


def _bounds(broker, blank):
    return {name: one["max-length"] for name, one in _definitions(broker, blank).items()}


async def test_auto_uses_another_queue_as_it_is(connection):
    """Without the management API a bound cannot be seen: the queue is used, and nothing made up."""
    channel = await connection.channel()
    await channel.declare_queue("imagegen.requests", durable=True)
    told = await provision("auto").apply(connection)
    assert len(told) == 6
    assert not any("imagegen.requests" in sentence for sentence in told)


def _policy_in_force(broker, blank, key, value):
    """Wait until the management API tells of a policy: its statistics come every few seconds."""
    while True:
        queue = broker.api(f"queues/{blank.path}/imagegen.requests")
        if (queue.get("effective_policy_definition") or {}).get(key) == value:
            return


@pytest.mark.parametrize("mode", ["auto", "check"])
async def test_a_differing_policy_is_told(connection, blank, broker, mode):
    """With a management URL a limit that somebody changed is told with both its values."""
    management_url = broker.node.management_url("admin")
    await provision("auto", blank.name, management_url).apply(connection)
    other = {**topology.policy(topology.queues(7)[0]), "vhost": blank.name}
    broker.api(f"policies/{blank.path}/imagegen.requests", "PUT", other)
    await asyncio.to_thread(_policy_in_force, broker, blank, "max-length", 7)
    work = provision(mode, blank.name, management_url).apply(connection)
    told = await (refusal(work) if mode == "check" else work)
    assert told[0] == "imagegen.requests: max-length is 7, the table says 20."
    assert len(told) == (2 if mode == "check" else 1)


async def test_a_management_api_that_is_away_is_told(ours, unused_tcp_port):
    """What could not be compared is not said to be in order."""
    url = f"http://monitoring:secret@127.0.0.1:{unused_tcp_port}"
    (sentence,) = await provision("auto", VHOST, url).apply(ours)
    assert sentence.startswith("The management API cannot be read")
    assert "secret" not in sentence


REQUESTS = topology.queues(20)[0]
LIMITS = dict(REQUESTS.limits)
ARGUMENTS = topology.declare_arguments(REQUESTS)


@pytest.mark.parametrize(
    ("live", "told"),
    [
        ({"effective_policy_definition": LIMITS}, []),
        ({"arguments": ARGUMENTS}, []),
        (
            {"arguments": ARGUMENTS, "effective_policy_definition": {"max-length": 7}},
            ["imagegen.requests: max-length is 7, the table says 20."],
        ),
        ({"arguments": ARGUMENTS, "effective_policy_definition": {"max-length": 70}}, []),
        (
            {"effective_policy_definition": {**LIMITS, "overflow": "drop-head"}},
            ["imagegen.requests: overflow is drop-head, the table says reject-publish."],
        ),
        (
            {"arguments": {"x-queue-type": "classic"}},
            [
                f"imagegen.requests: {key} is not set, the table says {value}."
                for key, value in LIMITS.items()
            ],
        ),
        (
            {"durable": False, "arguments": ARGUMENTS},
            ["imagegen.requests is not durable: requests would not survive a restart."],
        ),
    ],
    ids=[
        "policy",
        "arguments",
        "lower policy",
        "higher policy",
        "overflow",
        "none",
        "transient",
    ],
)
def test_a_live_queue_is_compared_limit_by_limit(live, told):
    """Arguments and policy combine as the broker combines them, as the minimum."""
    assert topology.differences(REQUESTS, {"durable": True, **live}) == told
