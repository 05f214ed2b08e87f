"""The command line `imagegen`: what it prints, writes and exits with."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest
from PIL import Image

from consumer.carrier import Route
from consumer.cli import Order, _path
from consumer.job_commands import call_off
from imagegen_client import broadcast
from imagegen_client.image import image_from_reply
from tests.command_line import PATHS, ROOT, CommandLine
from tests.house import House
from tests.test_contract import RESULT

SMALL = ("--size", "256x256")


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    house = House(broker, tmp_path_factory.mktemp("house"))
    yield house
    house.stop()


@pytest.fixture
def service(house):
    return house.service()


@pytest.fixture
def nobody(house):
    """No service."""
    house.stop()


@pytest.fixture
def imagegen(broker, tmp_path):
    return CommandLine(tmp_path, AMQP_URL=broker.url())


# ---------------------------------------------------------------- quick and plain

IMPORTS = """
import sys
from consumer.__main__ import app
sys.argv = ["imagegen", *sys.argv[1:]]
try:
    app()
finally:
    heavy = {"torch", "diffusers", "transformers", "sqlalchemy", "starlette", "numpy", "aio_pika"}
    heavy |= {"httpx"}
    print("heavy:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], "heavy:"),
        (["generate", "--help"], "heavy:"),
        (["serve", "--help"], "heavy:"),
        (["config"], "heavy:"),
        (["parking", "drop", "--help"], "heavy:"),
        (["generate", "x", "--size", "7"], "heavy: aio_pika"),
    ],
    ids=" ".join,
)
def test_a_command_imports_only_what_it_needs(arguments, heavy):
    """Help is quick, and works where neither torch nor the service is installed."""
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stderr.splitlines()[-1] == heavy, ran.stderr


def test_help_names_every_command(imagegen):
    """`imagegen --help` shows what there is, with a sentence each."""
    shown = imagegen("--help")
    assert shown.returncode == 0
    commands = (
        "serve",
        "generate",
        "jobs",
        "status",
        "cancel",
        "parking",
        "healthcheck",
        "config",
    )
    for command in commands:
        assert f" {command} " in shown.stdout


# ---------------------------------------------------------------- generate


def test_generate_writes_a_file_and_tells_the_facts(service, imagegen, tmp_path):
    """The file is named after prompt and seed; size, seed, forwards, seconds and model are told."""
    drawn = imagegen("generate", "A Sunset, over mountains!", "--seed", "42", *SMALL)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    path = tmp_path / "pictures" / "a-sunset-over-mountains-42.png"
    with Image.open(path) as image:
        assert image.size == (256, 256)
    assert "pictures/a-sunset-over-mountains-42.png" in drawn.stdout
    for fact in ("256x256 png", "seed 42", "8 forwards in", "s in all", "model scripted"):
        assert fact in drawn.stdout


@pytest.mark.parametrize(
    ("prompt", "output_format", "output", "name"),
    [
        ("日没", "png", "pictures", "pictures/picture-7.png"),
        ("À l'été", "png", "pictures", "pictures/a-l-ete-7.png"),
        ("../../etc/passwd", "png", "pictures", "pictures/etc-passwd-7.png"),
        ("x" * 500, "png", "pictures", f"pictures/{'x' * 60}-7.png"),
        ("[/bold] [red]", "webp", "pictures", "pictures/bold-red-7.webp"),
        ("x", "jpeg", "here", "here/x-7.jpg"),
        ("x", "png", "new/name.png", "new/name.png"),
    ],
    ids=range(7),
)
def test_the_file_has_a_plain_name(prompt, output_format, output, name):
    """Any prompt gives a name that is safe on any disk, and `-o` puts it where it is wanted."""
    order = Order(prompt, None, 7, 1, Path(output), output_format, None, 1.0, as_json=False)
    image = image_from_reply(RESULT.encode(), "application/json", {})
    assert _path(order, replace(image, format=output_format, seed=7)) == Path(name)


def test_a_path_is_told_as_it_is(service, imagegen, tmp_path):
    """Brackets in a path are no markup."""
    drawn = imagegen("generate", "x", "--seed", "7", *SMALL, "-o", "[/a] folder")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "[/a] folder/x-7.png" in drawn.stdout
    assert (tmp_path / "[/a] folder" / "x-7.png").is_file()


def test_several_pictures_count_their_seeds_up(service, imagegen, tmp_path):
    """`-n 3 --seed 7` is three requests with the seeds 7, 8 and 9."""
    drawn = imagegen("generate", "x", "-n", "3", "--seed", "7", *SMALL)
    assert drawn.returncode == 0
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["x-7.png", "x-8.png", "x-9.png"]


def test_json_can_be_read_by_a_program(service, imagegen, tmp_path):
    """With `--json` standard output is one object a picture, and nothing else."""
    drawn = imagegen("generate", "x", "-n", "2", "--seed", "7", *SMALL, "--json")
    assert drawn.returncode == 0
    lines = [json.loads(line) for line in drawn.stdout.splitlines()]
    assert [line["seed"] for line in lines] == [7, 8]
    for line in lines:
        assert (tmp_path / line["path"]).is_file()
        assert line["forwards"] == 8
        assert line["seconds"] > 0
        assert "data" not in line


# ---------------------------------------------------------------- errors


REFUSED = [
    (("", *SMALL), ["prompt: The prompt is empty."]),
    (("x", "--size", "100x100"), ["width: This is below 256", "height: This is below 256"]),
    (("x", "--seed", "-1"), ["seed: This is below 0"]),
    (("x", "--format", "gif"), ["output_format: This is not a known format."]),
]


def test_a_request_that_is_refused_exits_2(service, imagegen):
    """What the service refuses is told field by field; the exit code says: your request."""
    for arguments, words in REFUSED:
        refused = imagegen("generate", *arguments)
        assert refused.returncode == 2
        assert "invalid_request" in refused.stdout
        for word in words:
            assert word in refused.stdout


@pytest.mark.parametrize("size", ["wide", "1024", "1024x", "[/red]", "-1x5"])
def test_a_size_that_is_none_exits_2(imagegen, size):
    """What is no WIDTHxHEIGHT is told with an example, without a broker."""
    refused = imagegen("generate", "x", f"--size={size}")
    assert refused.returncode == 2
    assert f"--size {size} is no WIDTHxHEIGHT, such as 1280x720." in refused.stdout


def test_a_broker_that_is_away_exits_69(imagegen, unused_tcp_port):
    """No broker: a sentence, and the exit code for what is unavailable."""
    url = f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x"
    refused = imagegen("generate", "x", "--deadline", "1", AMQP_URL=url)
    assert refused.returncode == 69
    assert "unavailable: The broker could not be reached" in refused.stdout


async def test_a_full_queue_exits_75(nobody, imagegen, channel):
    """A queue that is full: the exit code for what may be tried again, in JSON too."""
    exchange = await channel.get_exchange("imagegen", ensure=False)
    for number in range(20):
        message = aio_pika.Message(b"{}", message_id=str(number))
        await exchange.publish(message, "imagegen.requests")
    refused = await asyncio.to_thread(imagegen, "generate", "x", "--json")
    assert refused.returncode == 75
    told = json.loads(refused.stdout)
    assert (told["error"], told["retryable"], told["details"]) == ("busy", True, [])


def test_a_failure_exits_1(service, imagegen):
    """What the GPU cannot draw is told with its code."""
    failed = imagegen("generate", "oom", *SMALL)
    assert failed.returncode == 1
    assert "out_of_memory: " in failed.stdout


def test_a_picture_that_cannot_be_written_is_told(service, imagegen, tmp_path):
    """A place that cannot be written to is a sentence, not a traceback."""
    (tmp_path / "pictures").write_text("in the way")
    failed = imagegen("generate", "x", *SMALL)
    assert failed.returncode == 73
    assert "cannot be written" in failed.stdout
    assert "Traceback" not in failed.stderr


def test_wrong_settings_exit_78(imagegen):
    """A command that needs the settings says what is wrong with them."""
    refused = imagegen("generate", "x", PORT="x")
    assert refused.returncode == 78
    assert refused.stderr.startswith("IMAGE_GEN_PORT: ")


# ---------------------------------------------------------------- cancel and healthcheck


def test_cancel_is_heard_by_the_service(service, imagegen):
    """`imagegen cancel` reaches whoever has the job."""
    assert imagegen("cancel", "job-7").returncode == 0
    assert service.wait("cancel_heard")["job_id"] == "job-7"


def test_cancel_without_a_broker_exits_69(unused_tcp_port, monkeypatch, capsys):
    """A cancel that could not be sent is not told as done."""
    monkeypatch.setattr(broadcast, "CONNECT_TIMEOUT_S", 0.2)
    assert call_off(Route(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x"), "job-7") == 69
    assert "could not be reached" in capsys.readouterr().err


def test_healthcheck_follows_the_service(serve, imagegen, unused_tcp_port_factory):
    """0 while it is alive or ready, 1 where it is not: for containers."""
    port, nowhere = unused_tcp_port_factory(), unused_tcp_port_factory()
    settings = {"PORT": port}
    away = imagegen("healthcheck", **settings)
    assert away.returncode == 1
    served = serve(**settings, AMQP_URL=f"amqp://a:b@127.0.0.1:{nowhere}/x")
    served.wait("broker_unreachable")
    assert imagegen("healthcheck", "--live", **settings).returncode == 0
    assert imagegen("healthcheck", **settings).returncode == 1
