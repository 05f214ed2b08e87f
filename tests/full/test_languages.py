"""Publishers in other languages, with a chat backend's rights: their pictures, and what they say."""

import asyncio
import contextlib
import os
import subprocess
import sys
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

    async def run(self, language, prompt, **environment):
        """Return the exit code and what was said on stderr."""
        done = await asyncio.to_thread(
            subprocess.run,
            [*self._command(language), self._url, self._wish(language, prompt), self.file],
            cwd=self._node_folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

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
