"""The store is lost, for real: nothing is taken meanwhile, nothing is lost, and it goes on."""

import asyncio
import json
import resource
import sqlite3

import pytest

from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}
NO_BYTE_MORE = 1


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
def serve(house, serve):
    """Services of a test's own; the shared one is not at home."""
    house.stop()
    return serve


def fill_disk(service):
    """Let the service write no file any more: SQLite's own write fails, as on a full disk."""
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (NO_BYTE_MORE, hard))


def empty_disk(service):
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_a_full_disk_stops_the_taking_and_loses_nothing(service, requester, broker):
    """Requests wait in the queue while nothing can be written, and are drawn afterwards."""
    fill_disk(service)
    await requester.publish({"prompt": "x", **SMALL}, message_id="patient")
    await asyncio.to_thread(service.wait, "store_lost")
    settled = await asyncio.to_thread(service.wait, "settled", job_id="patient")
    assert settled["outcome"] == "givenback"
    await asyncio.to_thread(service.wait, "taking_stopped")
    health = service.health()
    assert (health["status"], health["state"]) == ("fail", "no_store")
    assert (health["store"]["available"], health["work"]["taking"]) == (False, False)
    assert service.get("/readyz")[0] == 503
    assert service.get("/livez")[0] == 200
    empty_disk(service)
    await asyncio.to_thread(service.wait, "store_back")
    reply = json.loads((await requester.reply()).body)
    assert (reply["success"], reply["job_id"]) == (True, "patient")
    assert service.health()["state"] == "ready"


async def test_a_picture_in_hand_is_answered_and_written_down_later(service, requester, gate):
    """The disk fills up in a picture: the caller gets it, and so does who asks again later."""
    body = {"prompt": f"wait={gate.path}", **SMALL}
    await requester.publish(body, message_id="in-hand")
    await asyncio.to_thread(gate.reached)
    fill_disk(service)
    gate.open()
    first = json.loads((await requester.reply()).body)
    assert first["success"]
    empty_disk(service)
    await asyncio.to_thread(service.wait, "store_back")
    again = await requester.ask(body, message_id="in-hand")
    assert (again["replayed"], again["sha256"]) == (True, first["sha256"])


async def test_a_store_that_is_away_at_the_start_is_waited_for(serve, requester, tmp_path):
    """A database that another one holds locked is no reason to give up."""
    path = tmp_path / "held.sqlite"
    holder = sqlite3.connect(path)
    holder.execute("CREATE TABLE mine (id INTEGER)")
    holder.execute("BEGIN EXCLUSIVE")
    service = serve(STORE_URL=f"sqlite:///{path}")
    await asyncio.to_thread(service.wait, "store_lost")
    assert service.get("/readyz")[0] == 503
    holder.rollback()
    holder.close()
    await asyncio.to_thread(service.wait_ready)
    assert (await requester.ask({"prompt": "x", **SMALL}))["success"]
