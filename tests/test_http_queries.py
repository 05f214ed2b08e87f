"""Asked over AMQP what became of a job: who may know it is told, and nothing else does harm."""

import asyncio
import json

import aio_pika
import pytest

from schemas.status import JobList, JobStatus
from tests import asking
from tests.asking import SMALL, name
from tests.rpc import Requester

house, service, caller = asking.house, asking.service, asking.caller


@pytest.fixture
async def backend(service, channel):
    """The chat backend, with a reply queue of its own."""
    return await Requester(channel).start()


async def ask(requester, query, **properties):
    """Broadcast a query; it is on its way to every consumer when this returns."""
    exchange = await requester.channel.get_exchange("imagegen.control", ensure=False)
    body = query if isinstance(query, bytes) else json.dumps(query).encode()
    defaults = {"reply_to": requester.queue.name, "user_id": "chat-backend"}
    await exchange.publish(aio_pika.Message(body, **{**defaults, **properties}), "")


async def answered(requester, query, **properties):
    await ask(requester, query, **properties)
    return await requester.reply()


async def drawn(requester, **properties):
    """A job of the chat backend's; returns its id."""
    job_id = name()
    body = {"prompt": "x", **SMALL}
    assert (await requester.ask(body, message_id=job_id, **properties))["success"]
    return job_id


def status_of(job_id):
    return {"op": "status", "job_id": job_id}


async def test_ones_own_job_is_told(backend):
    """Who sent a job is told where it stands, with the same correlation id."""
    job_id = await drawn(backend, user_id="chat-backend")
    reply = await answered(backend, status_of(job_id), correlation_id="mine")
    status = JobStatus.model_validate_json(reply.body)
    assert (reply.type, reply.correlation_id) == ("imagegen.status.v1", "mine")
    assert (status.job_id, status.status, status.prompt) == (job_id, "succeeded", "x")


async def test_nobodys_job_is_told_to_anybody(backend):
    """A job that named no user is no secret."""
    job_id = await drawn(backend)
    reply = await answered(backend, status_of(job_id))
    assert JobStatus.model_validate_json(reply.body).job_id == job_id


async def test_anothers_job_is_not_told(backend, caller):
    """What the HTTP face's callers asked for is nothing to the chat backend: no word of it."""
    theirs = await caller.submitted({"prompt": "a secret", **SMALL})
    await caller.ended(theirs)
    mine = await drawn(backend, user_id="chat-backend")
    await ask(backend, status_of(theirs), correlation_id="theirs")
    # Queries are answered one beside the other: two more give the first one time enough.
    for _ in range(2):
        reply = await answered(backend, status_of(mine), correlation_id="mine")
        assert reply.correlation_id == "mine"
    reply = await answered(backend, {"op": "jobs", "limit": 200})
    listed = JobList.model_validate_json(reply.body)
    assert reply.type == "imagegen.jobs.v1"
    ids = {job.job_id for job in listed.jobs}
    assert mine in ids
    assert theirs not in ids
    assert b"a secret" not in reply.body


async def test_who_does_not_say_who_he_is_sees_nobodys(backend):
    """Without a verified user only jobs of nobody in particular are told."""
    mine = await drawn(backend, user_id="chat-backend")
    nobodys = await drawn(backend)
    reply = await answered(backend, {"op": "jobs"}, user_id=None)
    ids = {job.job_id for job in JobList.model_validate_json(reply.body).jobs}
    assert nobodys in ids
    assert mine not in ids


async def test_the_services_own_user_sees_all(broker, backend):
    """The HTTP face's user is told of every job."""
    mine = await drawn(backend, user_id="chat-backend")
    connection = await aio_pika.connect(broker.url("imagegen-http"))
    async with connection:
        http = await Requester(await connection.channel()).start()
        reply = await answered(http, status_of(mine), user_id="imagegen-http")
        assert JobStatus.model_validate_json(reply.body).job_id == mine


async def test_a_list_goes_on(backend):
    """`next` of a list, given as `before`, continues it."""
    made = [await drawn(backend, user_id="chat-backend") for _ in range(3)]
    seen, before = [], None
    while not set(made) <= set(seen):
        query = {"op": "jobs", "limit": 1} | ({"before": before} if before else {})
        page = JobList.model_validate_json((await answered(backend, query)).body)
        seen += [job.job_id for job in page.jobs]
        before = page.next
    assert len(seen) == len(set(seen))


BAD = {
    "no address": (status_of("x"), {"reply_to": None}),
    "our own queue": (status_of("x"), {"reply_to": "imagegen.requests"}),
    "a queue that is gone": ({"op": "jobs"}, {"reply_to": "amq.gen-gone"}),
    "a forged direct reply": (
        {"op": "jobs"},
        {"reply_to": "amq.rabbitmq.reply-to.g2dkABFyYWJiaXRAbm93aGVyZQ"},
    ),
    "no job id": ({"op": "status", "job_id": "not an id"}, {}),
    "too many": ({"op": "jobs", "limit": 201}, {}),
    "no cursor": ({"op": "jobs", "before": "yesterday"}, {}),
    "unknown": ({"op": "everything"}, {}),
    "no JSON": (b"\xff", {}),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_query_does_no_harm(service, backend, caller, case):
    """It is not answered, and whatever comes after it is; nothing lands in the requests."""
    query, properties = BAD[case]
    await ask(backend, query, **properties)
    job_id = await drawn(backend, user_id="chat-backend")
    reply = await answered(backend, status_of(job_id), correlation_id="after")
    assert reply.correlation_id == "after"
    assert backend.replies.empty()
    assert service.health()["queue"]["waiting"] == 0
    assert not [record for record in service.records if record["event"] == "query_broke"]


async def test_a_flood_of_queries_is_cut(service, backend):
    """Beyond sixteen at once queries are dropped; the service answers on."""
    job_id = await drawn(backend, user_id="chat-backend")
    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(ask(backend, {"op": "jobs", "limit": 200}))
    reply = await answered(backend, status_of(job_id), correlation_id="after")
    while reply.correlation_id != "after":
        assert reply.type == "imagegen.jobs.v1"
        if backend.replies.empty():
            await ask(backend, status_of(job_id), correlation_id="after")
        reply = await backend.reply()
