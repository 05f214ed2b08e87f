"""Two services with one PostgreSQL: each answers for the other, and both outlive the database."""

import asyncio
import json

import pytest

from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def test_one_answers_with_the_picture_that_the_other_drew(serve, requester, postgres):
    """Whoever gets the request a second time replays it, byte for byte."""
    with postgres.database() as url:
        first = serve(STORE_URL=url, WORKER_NAME="first")
        await asyncio.to_thread(first.wait_ready)
        drawn = await requester.ask({"prompt": "x", **SMALL}, message_id="shared")
        assert await asyncio.to_thread(first.stop) == 0
        second = serve(STORE_URL=url, WORKER_NAME="second")
        await asyncio.to_thread(second.wait_ready)
        again = await requester.ask({"prompt": "x", **SMALL}, message_id="shared")
        assert (drawn["replayed"], again["replayed"]) == (False, True)
        assert (again["image_base64"], again["worker"]) == (drawn["image_base64"], "first")
        assert await asyncio.to_thread(second.stop) == 0


async def test_a_killed_database_stops_the_taking_and_loses_nothing(
    serve, requester, postgres, gate
):
    """What is on the GPU is answered, what waits is drawn when the database is back."""
    with postgres.database() as url:
        service = serve(STORE_URL=url)
        await asyncio.to_thread(service.wait_ready)
        await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="in-hand")
        await asyncio.to_thread(gate.reached)
        postgres.kill()
        gate.open()
        reply = json.loads((await requester.reply()).body)
        assert (reply["success"], reply["job_id"]) == (True, "in-hand")
        await asyncio.to_thread(service.wait, "taking_stopped")
        assert service.health()["state"] == "no_store"
        await requester.publish({"prompt": "x", **SMALL}, message_id="patient")
        postgres.start()
        reply = json.loads((await requester.reply()).body)
        assert (reply["success"], reply["job_id"]) == (True, "patient")
        again = await requester.ask(
            {"prompt": f"wait={gate.path}", **SMALL}, message_id="in-hand"
        )
        assert again["replayed"]
        assert await asyncio.to_thread(service.stop) == 0
