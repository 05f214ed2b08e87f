"""The bound of the live queue, asked of a management API that answers as it likes."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from consumer import bound as module
from consumer import topology
from consumer.bound import Bound
from consumer.connection import Session
from consumer.management import ManagementApi, ManagementError

TABLE = topology.definitions(20)
TRUE = {"queues": TABLE["queues"][0], "policies": TABLE["policies"], "operator-policies": []}


class Api(ThreadingHTTPServer):
    """Answers every question with `body`; where that is None, as RabbitMQ does."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = None
        self.elsewhere = None
        self.asked = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    @property
    def url(self):
        return f"http://monitoring:secret@127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.split("/")[2]
        body = self.server.body
        self.send_response(302 if self.server.elsewhere else 200)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        self.end_headers()
        self.wfile.write((json.dumps(TRUE[kind]) if body is None else body).encode())
        self.server.loop.call_soon_threadsafe(self.server.asked.put_nowait, kind)

    def log_message(self, *_):
        pass


@pytest.fixture
async def api():
    with Api() as api:
        serving = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield api
        api.shutdown()
        serving.join()


@pytest.mark.parametrize("body", ["", "null", "[]", '"up"', "[1]", '{"error": "x"}', "<html>"])
async def test_an_odd_answer_does_not_end_the_service(api, monkeypatch, body):
    """Of a proxy in the API's place, say: the next answer that can be read is told."""
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.01)
    api.body = body
    told = asyncio.Queue()
    session = Session(1, None, None, asyncio.get_running_loop().create_future())
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        await Bound(api.url, "imagegen", told.put_nowait, tasks).attach(session)
        for _ in range(6):
            await api.asked.get()
        api.body = None
        while await told.get() != 20:
            pass
        session.lose("the end of the test")


async def test_a_password_is_told_to_nobody_elsewhere(api):
    """Who answers "look there" is not followed: the header would be."""
    api.elsewhere = f"{api.url}/elsewhere"
    with pytest.raises(ManagementError, match="302"):
        await asyncio.to_thread(ManagementApi(api.url).get, "queues")
    assert [await api.asked.get(), api.asked.empty()] == ["queues", True]


@pytest.mark.parametrize(
    "url",
    [
        "http://admin:se/cret@h:15672",
        "http://admin:se#cret@h:15672",
        "http://admin:se[cret@h:15672",
        "admin:se@h:15672",
        "se@h:15672",
    ],
)
def test_a_url_that_cannot_be_read_is_not_told_with_its_password(url):
    """A slash that is not written with %: what stands before it is taken for a port.

    Nor does it end the service, which is ready to ask before it asks.
    """
    api = ManagementApi(url)
    with pytest.raises(ManagementError) as caught:
        api.get("whoami")
    assert "se" not in str(caught.value).replace("user", "")
    assert "written with %" in str(caught.value)
