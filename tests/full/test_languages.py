"""Publishers in other languages, with a chat backend's rights: their pictures, and what they say."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest
from PIL import Image

from tests import asking
from tests.asking import held
from tests.conftest import VHOST
from tests.full import test_node
from tests.impostor import fill
from tests.serving import ROOT

gate = asking.gate
house, service, caller = asking.house, asking.service, asking.caller
node_folder = test_node.node_folder

EXAMPLES = ROOT / "examples"
BINDING = f"bindings/{VHOST}/e/imagegen/q/imagegen.requests"
PATIENCE_S = 60


class Publishers:
    """The examples as programs; each takes a broker's URL, a prompt and a file."""

    def __init__(self, broker, node_folder, file):
        self._url = broker.url("chat-backend")
        self._node_folder = node_folder
        self.file = file

    async def run(self, language, prompt, url=None, **environment):
        """Return the exit code and what was said on stderr."""
        program = self.start(language, prompt, url, **environment)
        return await asyncio.to_thread(self.ended, program)

    def start(self, language, prompt, url=None, **environment):
        """Return the running program, which leads a process group of its own."""
        return subprocess.Popen(
            [
                *self._command(language),
                url or self._url,
                self._wish(language, prompt),
                self.file,
            ],
            cwd=self._node_folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    @staticmethod
    def ended(program):
        """Return the exit code and what was said on stderr."""
        with program:
            try:
                out, said = program.communicate(timeout=PATIENCE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
        assert out == ""
        return program.returncode, said

    @staticmethod
    def _command(language):
        return {
            "node": ["node", "amqplib_rpc.mjs"],
            "pika": [sys.executable, EXAMPLES / "pika_rpc.py"],
            "shell": [EXAMPLES / "amqp_tools.sh"],
        }[language]

    @staticmethod
    def _wish(language, prompt):
        return f'{{"prompt": "{prompt}", "width": 512}}' if language == "shell" else prompt


@pytest.fixture
def publishers(service, broker, node_folder, tmp_path):
    return Publishers(broker, node_folder, tmp_path / "picture.png")


@pytest.fixture
def unheard(house, broker, node_folder, tmp_path):
    """Publishers whose requests nobody takes."""
    house.stop()
    yield Publishers(broker, node_folder, tmp_path / "picture.png")
    broker.purge()


def shell_queues(broker):
    """The reply queues that the shell's publishers have left."""
    names = [queue["name"] for queue in broker.api(f"queues/{VHOST}")]
    return [name for name in names if name.startswith("imagegen.client.shell-")]


@pytest.mark.parametrize("language", ["node", "pika", "shell"])
async def test_it_gets_its_picture(publishers, broker, language):
    """The picture is in the file, nothing is said, and no queue is left behind."""
    assert await publishers.run(language, "A lighthouse") == (0, "")
    with Image.open(publishers.file) as picture:
        assert (picture.format, picture.width) == ("PNG", 512)
    assert shell_queues(broker) == []


@pytest.mark.parametrize("language", ["node", "pika", "shell"])
async def test_an_error_is_shown(publishers, language):
    """A request that cannot be drawn ends it with the service's code and words, without a file."""
    code, said = await publishers.run(language, " ")
    assert code == 1
    assert "invalid_request" in said
    assert "The prompt is empty." in said
    assert not publishers.file.exists()


FULL = {"node": "busy: ", "pika": "busy: ", "shell": "no answer: "}


@pytest.mark.parametrize("language", FULL)
async def test_a_full_queue_is_shown(publishers, broker, caller, channel, gate, language):
    """With confirms it is told at once; without, the wait for an answer ends."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    code, said = await publishers.run(language, "x", PATIENCE_S="1")
    assert (code, said[: len(FULL[language])]) == (1, FULL[language])
    assert shell_queues(broker) == []
    gate.open()
    await caller.ended(first)


@contextlib.contextmanager
def unbound(broker):
    """Have the exchange lead nowhere."""
    key = urllib.parse.quote("imagegen.requests")
    broker.api(f"{BINDING}/{key}", "DELETE")
    yield
    broker.api(BINDING, "POST", {"routing_key": "imagegen.requests"})


@pytest.mark.parametrize("language", ["node", "pika"])
async def test_a_request_that_nobody_takes_is_shown(publishers, broker, language):
    """Published as mandatory it comes back where no queue is bound, and that is said."""
    with unbound(broker):
        code, said = await publishers.run(language, "x")
    assert (code, said[:12]) == (1, "unroutable: ")
    assert await publishers.run(language, "x") == (0, "")


@pytest.mark.parametrize("language", ["node", "pika", "shell"])
async def test_a_broker_that_cannot_be_had_is_shown(unheard, broker, language):
    """Where nobody listens, or the password is wrong, that is said in a line, and it ends."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    code, said = await unheard.run(language, "x", f"amqp://any:body@127.0.0.1:{port}/{VHOST}")
    assert (code, said.count("\n")) == (1, 1)
    parts = urllib.parse.urlsplit(broker.url("chat-backend"))
    wrong = f"amqp://{parts.username}:wrong@{parts.hostname}:{parts.port}/{VHOST}"
    code, said = await unheard.run(language, "x", wrong)
    assert (code, said.count("\n")) == (1, 1)
    assert "ACCESS_REFUSED" in said


@pytest.mark.parametrize("language", ["node", "pika", "shell"])
async def test_nobody_waits_for_ever(unheard, broker, language):
    """Where no service runs, the wait ends without an answer, without a file and without a queue."""
    code, said = await unheard.run(language, "x", PATIENCE_S="1")
    assert (code, said[:11]) == (1, "no answer: ")
    assert not unheard.file.exists()
    assert shell_queues(broker) == []


def until(true):
    """Return what is true, once it is."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("language", ["node", "pika"])
def test_a_connection_that_is_lost_is_shown(unheard, broker, language):
    """An answer that cannot come any more is not waited for."""
    program = unheard.start(language, "x")
    until(broker.waiting)
    (line,) = until(
        lambda: [
            line["name"]
            for line in broker.api("connections")
            if line.get("user") == "chat-backend"
        ]
    )
    broker.api(f"connections/{urllib.parse.quote(line, safe='')}", "DELETE")
    code, said = unheard.ended(program)
    assert (code, said.count("\n")) == (1, 1)
    assert "lost: " in said or "CONNECTION_FORCED" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_shell_that_is_stopped_takes_its_queue_along(unheard, broker, number):
    """Who presses Ctrl-C does not wait any more, and leaves nothing at the broker."""
    program = unheard.start("shell", "x")
    until(broker.waiting)
    os.killpg(program.pid, number)
    code, _ = unheard.ended(program)
    assert code == 1
    assert shell_queues(broker) == []
