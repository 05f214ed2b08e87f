"""OpenAI's client for Node in the version and with the request of LibreChat's image tool."""

import asyncio
import base64
import io
import json
import subprocess

import pytest
from PIL import Image

from tests import asking
from tests.asking import held
from tests.impostor import fill

gate = asking.gate
house, service, caller = asking.house, asking.service, asking.caller

CLIENT = "openai@5.8.2"
"""As in LibreChat's api/package.json, v0.8.2."""
PATIENCE_S = 60

PROGRAM = """
import OpenAI from "openai";

const [baseURL, wish] = process.argv.slice(2);
const openai = new OpenAI({ apiKey: "none", baseURL });
try {
  const answer = await openai.images.generate(JSON.parse(wish), { signal: null });
  console.log(JSON.stringify({ picture: answer.data[0].b64_json }));
} catch (error) {
  console.log(JSON.stringify({ raised: error.constructor.name, message: error.message }));
}
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A folder with the client and a program that asks."""
    folder = tmp_path_factory.mktemp("openai")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "ask.mjs").write_text(PROGRAM)
    install = ["npm", "install", "--no-audit", "--no-fund", CLIENT]
    subprocess.run(install, cwd=folder, check=True, timeout=170)
    return folder


@pytest.fixture
def ask(service, program):
    """Have the tool's request sent; returns what came of it."""

    async def ask(prompt, **changes):
        wish = {
            "model": "gpt-image-1",
            "prompt": prompt,
            "n": 1,
            "background": "auto",
            "output_format": "png",
            "quality": "auto",
            "size": "auto",
            **changes,
        }
        url = f"http://127.0.0.1:{service.port}/v1"
        done = await asyncio.to_thread(
            subprocess.run,
            ["node", "ask.mjs", url, json.dumps(wish)],
            cwd=program,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        return json.loads(done.stdout)

    return ask


@pytest.mark.parametrize("output_format", ["png", "webp"])
async def test_the_tool_reads_its_picture(ask, output_format):
    """What it reads, `data[0].b64_json`, is the picture in the format that it asked for."""
    answer = await ask("A lighthouse", output_format=output_format, output_compression=100)
    with Image.open(io.BytesIO(base64.b64decode(answer["picture"]))) as picture:
        assert (picture.format, picture.size) == (output_format.upper(), (1024, 1024))


async def test_the_tool_shows_what_is_wrong(ask):
    """The message that it gives to the chat's model names the field and what to send instead."""
    answer = await ask("x", background="transparent")
    assert answer["raised"] == "BadRequestError"
    assert "background: The background is always opaque. (auto, opaque" in answer["message"]


async def refused(caller):
    """Return once somebody was told of a full queue."""
    labels = {"method": "POST", "path": "/v1/images/generations", "status": "429"}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await caller.counted("imagegen_http_requests_total", **labels):
                return
            await asyncio.sleep(0.02)


async def test_the_client_waits_for_a_place(ask, caller, channel, gate):
    """Told of a full queue it comes back after the time it was told, and gets its picture."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await fill(channel)
    waiting = asyncio.get_running_loop().create_task(ask("x"))
    await refused(caller)
    gate.open()
    await caller.ended(first)
    assert "picture" in await waiting
