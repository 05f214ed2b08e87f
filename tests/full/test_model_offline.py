"""A service that starts without a network on a model that was pulled ahead."""

import asyncio
import os
import subprocess
import sys

import pytest

from tests.command_line import PATHS
from tests.hub import MODEL, FakeHub
from tests.rpc import Requester


@pytest.fixture
def hub(random_model):
    running = FakeHub(random_model)
    yield running
    running.stop()


def imagegen(command):
    """Run a command at the model, in the environment of this process."""
    ran = subprocess.run(
        [sys.executable, "-m", "consumer", "model", command],
        env={**os.environ, "PYTHONPATH": PATHS, "IMAGE_GEN_MODEL": MODEL},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def test_a_service_starts_offline_on_what_was_pulled(
    serve, hub, channel, tmp_path, monkeypatch
):
    """Pulled by one process, proved and loaded by others that may ask nobody; it draws."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    await asyncio.to_thread(imagegen, "pull")
    hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    await asyncio.to_thread(imagegen, "verify")
    service = serve(
        MODEL=MODEL, PIPELINE="consumer.gpu.diffusion:DiffusionPipeline", DEVICE="cpu"
    )
    await asyncio.to_thread(service.wait_ready)
    requester = await Requester(channel).start()
    answer = await requester.ask({"prompt": "x", "width": 256, "height": 256})
    assert (answer["success"], answer["model"]) == (True, MODEL)
    assert answer["forwards"] == 8
