"""Clients with nothing of ours get pictures by RPC."""

import asyncio
import io
import subprocess
import sys

import pytest
from PIL import Image

from tests.serving import ROOT

MODES = [
    pytest.param([], id="exclusive queue, exchange imagegen"),
    pytest.param(["--direct"], id="direct reply-to, exchange imagegen"),
    pytest.param(["--default-exchange"], id="exclusive queue, default exchange"),
    pytest.param(["--direct", "--default-exchange"], id="direct reply-to, default exchange"),
]


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.mark.parametrize("flags", MODES)
async def test_plain_pika_gets_a_picture(service, broker, tmp_path, flags):
    """The pika example gets its picture, whichever way it asks and is answered."""
    file = tmp_path / "picture.png"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, ROOT / "examples/pika_rpc.py", broker.url(), "x", file, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Image.open(io.BytesIO(file.read_bytes())).size == (512, 512)
