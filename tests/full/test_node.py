"""Node's amqplib, with nothing of ours, gets pictures by RPC."""

import asyncio
import io
import shutil
import subprocess

import pytest
from PIL import Image

from tests.serving import ROOT
from tests.test_plain_clients import MODES


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """A folder with amqplib and the example."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(ROOT / "examples/amqplib_rpc.mjs", folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "amqplib@^2"],
        cwd=folder,
        check=True,
        timeout=170,
    )
    return folder


@pytest.mark.parametrize("flags", MODES)
async def test_plain_amqplib_gets_a_picture(service, broker, node_folder, tmp_path, flags):
    """The amqplib example gets its picture, whichever way it asks and is answered."""
    file = tmp_path / "picture.png"
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "amqplib_rpc.mjs", broker.url(), "x", file, *flags],
        cwd=node_folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Image.open(io.BytesIO(file.read_bytes())).size == (512, 512)
