"""Rights: each user tries each operation on each object of a real broker, and the table is right."""

import asyncio
import json

import aio_pika
import pika
import pytest

from consumer.topology import USERS
from control import loopback
from control.node import RABBITMQ
from imagegen_client import ImageClient
from tests import rights
from tests.house import House

PROFILES = {
    "default": ("definitions.json", "users.json"),
    "hardened": ("definitions.cluster.json", "users.hardened.json"),
}
"""The files that are loaded: between them all that the repository has."""
USER_NAMES = [user.name for user in USERS]


def _with_vhost(text, vhost):
    """Return definitions as they stand in a file, for another vhost and without users."""
    found = json.loads(text)
    found.pop("users", None)  # they are there, with passwords
    for kind in ("exchanges", "queues", "bindings", "policies", "permissions"):
        for each in found.get(kind, ()):
            each["vhost"] = vhost
    return found | ({"vhosts": [{"name": vhost}]} if "vhosts" in found else {})


@pytest.fixture(scope="module", params=PROFILES)
def profile(request, broker):
    """A vhost with the definitions of a profile, where the users have its rights; its name."""
    for file in PROFILES[request.param]:
        definitions = _with_vhost((RABBITMQ / file).read_text(), request.param)
        broker.api("definitions", "POST", definitions)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.api(f"permissions/{request.param}/admin", "PUT", everything)
    yield request.param
    broker.api(f"vhosts/{request.param}", "DELETE")


def url(broker, user, vhost):
    return f"{broker.url(user).rpartition('/')[0]}/{vhost}"


@pytest.fixture
async def others(broker, profile):
    """What other people have on the vhost; returns a function that makes it good again."""
    async with await aio_pika.connect(url(broker, "admin", profile)) as connection:
        channel = await connection.channel()

        async def furnish():
            await channel.declare_exchange(rights.STRANGE_EXCHANGE, durable=True)
            for name in set(rights.QUEUES) - set(rights.OWN_QUEUES):
                classic = {"x-queue-type": "classic"}
                await channel.declare_queue(name, durable=True, arguments=classic)

        furnish.exclusive = (await channel.declare_queue("", exclusive=True)).name
        await furnish()
        yield furnish


def release(broker):
    version = broker.api("overview")["rabbitmq_version"]
    return tuple(int(part) for part in version.split(".")[:3])


@pytest.mark.parametrize("user", USER_NAMES)
async def test_each_user_may_do_what_the_table_says_and_nothing_else(
    broker, profile, others, user
):
    """Every operation on every object, tried on a channel of its own: allowed and refused as told."""
    mine, version = rights.PROFILES[profile][user], release(broker)
    wrong, tried = [], 0
    async with await aio_pika.connect(url(broker, user, profile)) as connection:
        for name, operation, try_it, needs in rights.tries(others.exclusive):
            wanted = rights.may(mine, name, needs, version)
            channel = await connection.channel()
            try:
                await try_it(await channel.get_underlay_channel(), name)
                done = True
                await channel.close()
            except rights.REFUSALS:
                done = False
            tried += 1
            if done and operation == "delete":
                await others()
            if done is not wanted:
                wrong.append((name, operation, "allowed" if done else "refused"))
    assert wrong == []
    assert tried == 157


@pytest.mark.parametrize("user", USER_NAMES)
def test_the_management_api_is_for_looking_and_for_one_user(broker, profile, user):
    """`monitoring` sees queues and policies; nobody of ours takes, changes or deletes a thing."""
    wrong = []
    for (method, path), users in rights.ON_THE_API.items():
        url = f"{broker.node.management_url(user)}/api/{path.format(vhost=profile)}"
        body = None if method == "GET" else json.dumps(rights.API_BODY).encode()
        answer = loopback.ask(method, url, body)
        refused = answer.status in {401, 403} or b"ACCESS_REFUSED" in answer.body
        if refused is (user in users) or not (refused or answer.status == 200):
            wrong.append((method, path, answer))
    assert wrong == []


@pytest.mark.parametrize("profile", ["hardened"], indirect=True)
async def test_the_hardened_profile_is_enough_for_service_and_callers(
    broker, profile, tmp_path
):
    """On it, and on quorum queues, a picture is had and the service finds all that it needs."""
    house = House(
        broker,
        tmp_path,
        AMQP_URL=url(broker, "imagegen-consumer", profile),
        HTTP_AMQP_URL=url(broker, "imagegen-http", profile),
    )
    try:
        service = await asyncio.to_thread(house.service)
        async with ImageClient(url(broker, "chat-backend", profile)) as client:
            assert (await client.generate("x", width=256, height=256)).width == 256
        assert json.loads(service.get("/health")[2])["ready"]
    finally:
        await asyncio.to_thread(house.stop)


@pytest.mark.parametrize("user", USER_NAMES)
def test_no_user_reaches_another_vhost(broker, user):
    """On a vhost that is not ours there is nothing for our users."""
    broker.api("vhosts/elsewhere", "PUT", {})
    try:
        with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="NOT_ALLOWED"):
            pika.BlockingConnection(pika.URLParameters(url(broker, user, "elsewhere")))
    finally:
        broker.api("vhosts/elsewhere", "DELETE")
