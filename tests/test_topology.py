"""The topology commands on a real broker: what differs is told, what can be mended is mended."""

import asyncio
import json

import pytest

from consumer import topology
from consumer.divergence.compare import differences, unseen
from consumer.divergence.live import Live, Wanted
from consumer.divergence.policies import bound_in_force
from consumer.topology_commands import Aim
from imagegen_client import Busy, ImageClient
from tests.command_line import CommandLine

TABLE = topology.definitions(20)
SAME = "The broker is as the table says.\n"


@pytest.fixture
def vhost(broker, tmp_path, monkeypatch):
    """A vhost of its own, brought to the table; called, it runs `imagegen topology` on it."""
    monkeypatch.chdir(tmp_path)
    run = CommandLine(
        tmp_path,
        AMQP_URL=broker.url("imagegen-consumer").rpartition("/")[0] + "/topology%20test",
        MANAGEMENT_URL=broker.node.management_url("admin"),
    )

    def topology_command(*arguments, **settings):
        ran = run.here("topology", *arguments, **settings)
        return ran.returncode, ran.stdout, ran.stderr

    assert topology_command("apply")[0] == 0
    yield topology_command
    broker.api("vhosts/topology%20test", "DELETE")


def change(broker, path, body=None):
    """Change something of the vhost behind the back of the commands; None deletes it."""
    method = "DELETE" if body is None else "POST" if path.startswith("bindings") else "PUT"
    kind, _, name = path.partition("/")
    broker.api(f"{kind}/topology%20test/{name}", method, body)


def policy(queue, **changes):
    wanted = next(each for each in TABLE["policies"] if each["name"] == queue)
    body = {key: wanted[key] for key in ("pattern", "apply-to", "priority", "definition")}
    return {**body, **changes}


# ---------------------------------------------------------------- on the broker


def test_a_vhost_that_is_missing_is_made_and_filled(broker, vhost):
    """`apply` made it all from nothing, and `check` and `diff` agree that nothing is to do."""
    assert vhost("check", "--no-rights") == (0, SAME, "")
    assert vhost("diff", "--no-rights", "--json") == (0, "", "")
    assert vhost("apply") == (0, SAME, "")
    declared = {queue["name"] for queue in broker.api("queues/topology%20test")}
    assert declared == {queue["name"] for queue in TABLE["queues"]}


def test_our_own_definitions_are_the_table(broker, vhost):
    """What the broker loaded at its start is what the commands want, rights of all users included."""
    assert vhost("check", "--vhost", "imagegen") == (0, SAME, "")


def test_each_difference_has_its_line_and_is_mended_without_a_loss(broker, vhost):
    """Exchange, queue, binding and policies that somebody took or changed come back."""
    change(broker, "exchanges/imagegen.dlx")
    change(broker, "queues/imagegen.parking")
    change(broker, "policies/imagegen.expired")
    limits = {"max-length": 7, "expires": 3_600_000}
    change(broker, "policies/imagegen.requests", policy("imagegen.requests", definition=limits))
    told = (
        "policy imagegen.requests: max-length is 7, the table says 20",
        "policy imagegen.requests: overflow is not set, the table says reject-publish",
        "policy imagegen.requests: message-ttl is not set, the table says 600000",
        "policy imagegen.requests: dead-letter-exchange is not set, the table says imagegen.dlx",
        "policy imagegen.requests: expires is 3600000, the table says none",
        "policy imagegen.expired: missing",
        "exchange imagegen.dlx: missing",
        "queue imagegen.parking: missing",
        "binding imagegen.dlx -> imagegen.expired: missing",
    )
    assert vhost("check", "--no-rights") == (1, "".join(f"{line}\n" for line in told), "")
    code, planned, _ = vhost("apply", "--dry-run")
    assert code == 1
    assert [line.partition(" -> ")[0] for line in planned.splitlines()[:8]] == list(told[:8])
    assert vhost("check", "--no-rights")[0] == 1, "a dry run did something"
    code, done, _ = vhost("apply")
    assert (code, done.splitlines()) == (
        0,
        [
            "policy imagegen.requests set",
            "policy imagegen.expired set",
            "exchange imagegen.dlx declared",
            "queue imagegen.parking declared",
            "binding imagegen.dlx -> imagegen.expired declared",
            SAME.strip(),
        ],
    )
    assert vhost("check", "--no-rights")[0] == 0


def test_what_cannot_be_mended_is_told_with_its_remedy(broker, vhost):
    """A queue with limits as arguments or of another type, an exchange of another type: untouched."""
    for queue in ("imagegen.requests", "imagegen.parking"):
        change(broker, f"queues/{queue}")
    change(broker, "exchanges/imagegen.events")
    change(broker, "exchanges/imagegen.events", {"type": "fanout", "durable": True})
    fixed = {"x-queue-type": "classic", "x-max-length": 20}
    change(broker, "queues/imagegen.requests", {"durable": True, "arguments": fixed})
    quorum = {"x-queue-type": "quorum"}
    change(broker, "queues/imagegen.parking", {"durable": True, "arguments": quorum})
    code, done, _ = vhost("apply", "--single")
    assert code == 1
    cannot = [line.partition(" -> ")[0] for line in done.splitlines() if "cannot" in line]
    assert cannot == [
        "cannot: exchange imagegen.events: type is fanout, the table says topic",
        "cannot: queue imagegen.requests: argument x-max-length is 20, the table says none",
        "cannot: queue imagegen.parking: type is quorum, the table says classic",
    ]
    assert broker.api("queues/topology%20test/imagegen.requests")["arguments"] == fixed
    assert done.count(" -> unbind it, have the consumers empty it, delete it") == 2
    assert done.count(" -> delete it while nobody publishes, then") == 1


def test_policies_of_others_that_win_are_told(broker, vhost):
    """One policy applies to a queue: that of another with a higher priority hides ours."""
    change(
        broker,
        "policies/all",
        {"pattern": "^im", "priority": 99, "definition": {"expires": 1 << 30}},
    )
    low = {"pattern": "requests$", "apply-to": "queues", "definition": {"max-length": 5}}
    change(broker, "operator-policies/low", low)
    code, told, _ = vhost("diff", "--no-rights")
    assert code == 0
    assert (
        "queue imagegen.requests: policy in force is all (priority 99),"
        " the table says imagegen.requests (priority 10)\n"
    ) in told
    assert (
        "queue imagegen.requests: max-length by the operator policy low is 5, the table says 20\n"
    ) in told


def test_rights_are_compared_and_set_only_when_told(broker, vhost):
    """`apply` leaves rights alone; with --rights it gives each user those of the table."""
    code, told, _ = vhost("diff")
    assert "user chat-backend: write is not set, the table says" in told
    assert vhost("apply")[:2] == (0, SAME)
    code, done, _ = vhost("apply", "--rights", "--hardened")
    assert code == 0
    assert "rights of user chat-backend set" in done
    assert vhost("check")[0] == 0, "the hardened profile is recognised"
    assert vhost("apply", "--rights")[:2] == (0, SAME), "and stays"
    code, told, _ = vhost("check", "--no-hardened")
    assert code == 1
    assert told.startswith("user chat-backend: write is ^(imagegen|")
    assert told.count("\n") == 1


def test_who_may_see_less_is_told_what_was_not_compared(broker, vhost):
    """The user that only looks compares the limits, and says that it may not read rights."""
    code, told, unseen = vhost(
        "check",
        *("--vhost", "imagegen", "--max-queue-size", "50"),
        MANAGEMENT_URL=broker.node.management_url("monitoring"),
    )
    assert code == 1
    assert told == "policy imagegen.requests: max-length is 20, the table says 50\n"
    assert unseen == "Not compared: users and rights may be read by administrators only.\n"


def test_a_step_that_is_refused_is_told(broker, vhost):
    """A user that may not change anything gets the broker's word for each step; exit code 1."""
    code, done, _ = vhost(
        "apply",
        *("--vhost", "imagegen", "--max-queue-size", "50"),
        MANAGEMENT_URL=broker.node.management_url("monitoring"),
    )
    assert code == 1
    assert done == "not so: policy imagegen.requests set: it answers 401 Unauthorized\n"


@pytest.mark.parametrize(
    ("user", "code", "told"),
    [
        (None, 69, "The management API cannot be reached: [Errno 111] Connection refused.\n"),
        ("amqp", 69, "The management API cannot be reached: "),
        (
            "chat-backend",
            77,
            "The management API does not let this user do that: it answers 401",
        ),
    ],
    ids=["nobody there", "another port", "no tag"],
)
def test_an_api_that_does_not_answer_has_its_exit_code(
    broker, vhost, unused_tcp_port, user, code, told
):
    """Unreachable is 69 and not allowed 77, never 0 or 1; no password is shown."""
    url = f"http://me:hunter-two@127.0.0.1:{unused_tcp_port}"
    if user == "amqp":
        url = f"http://me:hunter-two@127.0.0.1:{broker.node.amqp_port}"
    elif user is not None:
        url = broker.node.management_url(user)
    for command in ("check", "diff", "apply"):
        exit_code, out, error = vhost(command, MANAGEMENT_URL=url)
        assert (exit_code, out) == (code, "")
        assert error.startswith(told)
        assert "hunter" not in error


def test_without_an_api_it_says_which_setting_is_missing(broker, tmp_path, monkeypatch):
    """No management URL: a usage error that names both ways to give it."""
    monkeypatch.chdir(tmp_path)
    ran = CommandLine(tmp_path, AMQP_URL=broker.url()).here("topology", "check")
    assert ran.returncode == 2
    assert "IMAGE_GEN_MANAGEMENT_URL" in ran.stderr


# ---------------------------------------------------------------- the bound of a live queue


class Callers:
    """Callers of the chat backend's, each of whom waits for a picture."""

    def __init__(self, client, tasks, broker):
        self._client, self._tasks, self._broker = client, tasks, broker
        self.jobs = []

    def call(self, number, prompt="x"):
        """So many more want a picture."""
        for _ in range(number):
            job = self._client.generate(prompt, width=256, height=256, seed=len(self.jobs))
            self.jobs.append(self._tasks.create_task(job))

    async def waiting(self, number):
        """Return once so many requests wait, none of them answered yet."""
        while await asyncio.to_thread(self._broker.waiting) < number:
            assert not any(job.done() for job in self.jobs), self.jobs
            await asyncio.sleep(0.02)

    async def one_too_many(self):
        """The next one is refused at once."""
        with pytest.raises(Busy):
            await self._client.generate("one too many")


@pytest.fixture
async def callers(broker):
    """Callers who have all been answered when the test ends."""
    async with ImageClient(broker.url()) as client, asyncio.TaskGroup() as tasks:
        callers = Callers(client, tasks, broker)
        yield callers
        for job in callers.jobs:
            job.cancel()


async def test_the_bound_is_changed_while_work_is_in_flight(
    broker, house, gate, vhost, callers
):
    """20 to 50 and back under clients that wait: none is refused within the bound, none is lost."""
    service = house.service(MANAGEMENT_URL=broker.node.management_url("monitoring"))

    async def bound(size):
        where = ("--vhost", "imagegen", "--max-queue-size", str(size))
        ran = await asyncio.to_thread(vhost, "apply", *where)
        assert ran == (0, f"policy imagegen.requests set\n{SAME}", "")

    callers.call(1, f"wait={gate.path}")
    await asyncio.to_thread(gate.reached)
    callers.call(20)
    await callers.waiting(20)
    await callers.one_too_many()
    await bound(50)
    callers.call(30)
    await callers.waiting(50)
    await callers.one_too_many()
    await asyncio.to_thread(_shows, service, 50)
    await bound(20)
    await callers.one_too_many()
    assert broker.waiting() == 50
    await asyncio.to_thread(_shows, service, 20)
    gate.open()
    pictures = await asyncio.gather(*callers.jobs)
    assert [picture.seed for picture in pictures] == list(range(51))


def _shows(service, bound):
    """Wait until the service has noticed; then its health page says it."""
    service.wait("bound_changed", now=bound)
    queue = service.health()["queue"]
    assert (queue["bound"], queue["bound_from"]) == (bound, "management_api")


# ---------------------------------------------------------------- what is compared, without a broker


def live(**changes):
    """The vhost as it is right after our definitions were loaded."""
    return Live(
        "imagegen",
        **{name: TABLE[name] for name in ("exchanges", "queues", "bindings", "policies")}
        | changes,
    )


def told(found, **wanted):
    return [each.sentence for each in differences(found, Wanted(20, **wanted), rights=True)]


def test_the_table_is_itself():
    """Definitions of either profile show no difference against themselves but for absent users."""
    cluster = topology.definitions(20, cluster=True)
    names = [f"user {user.name}: missing" for user in topology.USERS]
    assert told(live()) == names
    assert (
        told(
            Live(
                "imagegen",
                **{k: cluster[k] for k in ("exchanges", "queues", "bindings", "policies")},
            ),
            cluster=True,
        )
        == names
    )


@pytest.mark.parametrize("cluster", [False, True])
def test_the_type_that_is_wanted_is_that_of_the_queues_that_are_there(cluster):
    """Without its queue of requests a cluster is still one: it gets a quorum queue again."""
    table = topology.definitions(20, cluster=cluster)
    strange = {"name": "other", "arguments": {"x-queue-type": "quorum"}}
    left = [queue for queue in table["queues"] if queue["name"] != "imagegen.requests"]
    aim = Aim("http://here", "imagegen", 20, None, hardened=False)
    assert aim.wanted(live(queues=[strange, *left])).cluster is cluster
    assert aim.wanted(live(queues=[*left, TABLE["queues"][0]])).cluster is False


def test_what_may_not_be_read_is_taken_from_the_queue():
    """Without a right to read policies the limits in force are compared, once they are known."""
    queues = [dict(queue) for queue in TABLE["queues"]]
    assert told(live(policies=None, queues=queues, users=None)) == []
    queues[0]["effective_policy_definition"] = {
        **TABLE["policies"][0]["definition"],
        "max-length": 9,
    }
    assert told(live(policies=None, queues=queues, users=None)) == [
        "queue imagegen.requests: max-length is 9, the table says 20"
    ]
    assert unseen(live(policies=None, users=None, queues=queues[:2]), rights=True) == [
        "policies may not be read by this user: limits in force were compared",
        "what is in force at queue imagegen.expired is not known yet: ask again in a moment",
        "users and rights may be read by administrators only",
    ]


def test_a_limit_that_would_drop_messages_is_not_set():
    """Copies above the limit stay parked: drop-head would throw the oldest away."""
    queues = [{**queue, "messages_ready": 1_001} for queue in TABLE["queues"]]
    found = differences(live(queues=queues, policies=()), Wanted(20), rights=False)
    stays = "1 messages above the limit would be dropped: take them out first"
    assert [(each.thing, each.step is None, each.remedy) for each in found] == [
        ("policy imagegen.requests", False, ""),
        ("policy imagegen.expired", True, stays),
        ("policy imagegen.parking", True, stays),
    ]


@pytest.mark.parametrize(
    ("binding", "line"),
    [
        (("imagegen", "queue", "spy"), "binding imagegen -> spy (x): not in the table"),
        (
            ("amq.topic", "queue", "imagegen.requests"),
            "binding amq.topic -> imagegen.requests (x): not in the table",
        ),
        (("imagegen.events", "queue", "amq.gen-1"), None),
        (("amq.topic", "queue", "spy"), None),
        (("", "queue", "imagegen.requests"), None),
    ],
)
def test_a_binding_that_leads_requests_elsewhere_is_told(binding, line):
    """Who copies requests, or puts messages among them, is shown; listeners and strangers are not."""
    source, kind, destination = binding
    other = {
        "source": source,
        "destination_type": kind,
        "destination": destination,
        "routing_key": "x",
    }
    found = told(live(bindings=[*TABLE["bindings"], other], users=None))
    assert found == ([line] if line else [])


def test_tags_that_are_missing_or_too_many_are_told():
    """A user with a tag that the table does not give it may do more than the rights say."""
    users = [{"name": user.name, "tags": ["administrator"]} for user in topology.USERS]
    permissions = topology.users()["permissions"]
    found = told(live(users=users, permissions=permissions))
    assert found == [
        "user imagegen-consumer: tags is administrator, the table says none",
        "user chat-backend: tags is administrator, the table says none",
        "user imagegen-http: tags is administrator, the table says none",
        "user monitoring: tags is administrator, the table says monitoring",
    ]


@pytest.mark.parametrize(
    ("policies", "operators", "arguments", "bound"),
    [
        ([policy("imagegen.requests")], [], {}, 20),
        ([policy("imagegen.requests")], [{"max-length": 7}], {}, 7),
        ([policy("imagegen.requests")], [{"max-length": 70}], {"x-max-length": 9}, 9),
        ([], [{"max-length": 7}], {}, 7),
        ([], [], {}, None),
        ([policy("imagegen.requests", pattern="*")], [], {}, None),
    ],
)
def test_the_bound_in_force_is_the_lowest(policies, operators, arguments, bound):
    """Argument, policy and operator policy combine as the minimum; a strange pattern as none."""
    queue = {**TABLE["queues"][0], "arguments": arguments}
    others = [
        {
            "name": "op",
            "pattern": "",
            "apply-to": "all",
            "priority": 0,
            "definition": definition,
        }
        for definition in operators
    ]
    mine = [{**each, "name": "mine"} for each in policies]
    found = live(queues=[queue], policies=mine, operator_policies=others)
    assert bound_in_force(found) == bound


def test_json_has_all_that_the_lines_say(broker, vhost):
    """One object a line, with what would be done."""
    change(broker, "policies/imagegen.requests", policy("imagegen.requests", priority=3))
    _, out, _ = vhost("diff", "--no-rights", "--json")
    assert json.loads(out) == {
        "thing": "policy imagegen.requests",
        "aspect": "priority",
        "found": 3,
        "wanted": 10,
        "applies": True,
        "remedy": None,
    }
