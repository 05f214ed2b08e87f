"""The logs: one form for everybody's records, one line for each job, and nothing secret in them."""

import asyncio
import io
import json
import logging
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from consumer import logs, stacks
from consumer.logs import HIDDEN, Scrubber
from tests.rpc import Requester

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SMALL = {"width": 256, "height": 256}


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
def told(monkeypatch):
    """Configure the logs of this process, and read what is told; all is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    stream = io.StringIO()

    def read(log_format="json", **options):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(log_format, "info", **options)
        return stream.getvalue

    yield read
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before


def records(text):
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------- one line for each job


async def test_a_finished_job_has_one_line_with_all_of_it(house, requester):
    """Who, what became of it, how long it waited and was drawn, and what the picture is."""
    service = house.service()
    await requester.ask(
        {"prompt": "step=0.01", **SMALL},
        message_id="told",
        correlation_id="caller-7",
        headers={"traceparent": TRACEPARENT},
    )
    line = await asyncio.to_thread(service.wait, "settled", job_id="told")
    wanted = {
        "correlation_id": "caller-7",
        "trace_id": TRACE,
        "outcome": "succeeded",
        "code": None,
        "reply": "confirmed",
        "redelivered": False,
        "attempt": 1,
        "replayed": False,
        "size": "256x256",
        "format": "png",
        "forwards": 8,
        "worker": "tester",
    }
    assert {name: line[name] for name in wanted} == wanted
    assert list(line["stages"]) == ["text_encode", "denoise", "vae_decode", "encode"]
    assert line["stages"]["denoise"] == pytest.approx(0.08)
    assert 0 < line["generation_s"] < line["held_s"]
    assert min(line["bytes"], line["queued_s"] + 1, line["waited_s"] + 1) > 0
    assert service.wait("started", job_id="told")["trace_id"] == TRACE


async def test_a_failed_job_has_its_line_too(house, requester):
    """What the GPU would not draw is told with its code, its attempt and its deaths."""
    service = house.service()
    await requester.ask({"prompt": "die=9 lives=/dev/null", **SMALL}, message_id="broken")
    line = await asyncio.to_thread(service.wait, "settled", job_id="broken")
    told = line["outcome"], line["code"], line["attempt"], line["deaths"]
    assert told == ("failed", "gpu_died", 1, 2)


async def test_prompts_are_told_only_if_asked_for(house, requester):
    """With IMAGE_GEN_LOG_PROMPTS the line has the prompt; without, nothing in the log has it."""
    for wanted in ("false", "true"):
        service = house.service(LOG_PROMPTS=wanted)
        await requester.ask({"prompt": "a heron at dawn", **SMALL})
        line = await asyncio.to_thread(service.wait, "settled")
        assert line.get("prompt") == {"true": "a heron at dawn", "false": None}[wanted]
        assert ("heron" in "".join(service.lines)) is (wanted == "true")


async def test_a_trace_id_that_is_none_is_not_told(house, requester):
    """What a caller writes there need not be a trace; it does no harm and is left out."""
    service = house.service()
    for number, told in enumerate(("00-0-0-00", f"00-{'0' * 32}-b7ad6b7169203331-01", 7)):
        await requester.ask(
            {"prompt": "x", **SMALL}, message_id=f"n{number}", headers={"traceparent": told}
        )
        line = await asyncio.to_thread(service.wait, "settled", job_id=f"n{number}")
        assert "trace_id" not in line


# ---------------------------------------------------------------- nothing secret

SECRETS = [
    ("dialling amqp://user:hunter2@host/vhost now", "dialling amqp://user:***@host/vhost now"),
    ("http://a:p@ss/w@host:1/x", "http://a:***@host:1/x"),
    ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
    ("Basic dXNlcjpwYXNz and more", "Basic *** and more"),
    ("https://host:8034/path@2 is fine", "https://host:***@2 is fine"),
    ("http://host/path, user@example.org", "http://host/path, user@example.org"),
]


@pytest.mark.parametrize(("text", "scrubbed"), SECRETS)
def test_secrets_are_known_by_their_place(text, scrubbed):
    """A password in a URL and the token of a header are hidden, wherever they come from."""
    assert Scrubber().text(text) == scrubbed


def test_secrets_are_known_by_their_name_and_value():
    """However deep they lie, and whatever the field is called; a count of tokens is no secret."""
    scrubber = Scrubber(["amqp://me:caf%C3%A9-au-lait@host/", "a-token-of-ours", "short"])
    told = {
        "password": "x",
        "api_token": "y",
        "tokens": 12,
        "inner": [
            {"note": "a-token-of-ours!", "what": "café-au-lait", "raw": "caf%C3%A9-au-lait"}
        ],
        "short": "short",
    }
    assert scrubber.value(told) == {
        "password": HIDDEN,
        "api_token": HIDDEN,
        "tokens": 12,
        "inner": [{"note": f"{HIDDEN}!", "what": HIDDEN, "raw": HIDDEN}],
        "short": "short",
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_an_exception_says_is_scrubbed(told, log_format):
    """Its words, its traceback and the variables on the way are in the record without secrets."""
    read = told(log_format, secrets=["s3cret-enough"])

    def fail(hidden):
        raise ValueError(f"cannot reach http://u:{hidden}@h")

    try:
        fail("s3cret-enough")
    except ValueError:
        logs.logger("test").exception("broke")
    assert "Traceback" in read()
    assert "s3cret-enough" not in read()


def test_everybody_is_told_in_one_form(told):
    """Records of libraries, warnings and the last words of a thread are JSON lines like ours."""
    read = told(secrets=["s3cret-enough"])
    logs.logger("ours").info("hello", n=1)
    logging.getLogger("theirs").error("with %s", "s3cret-enough")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("beware", UserWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    ours, theirs, warning, last = records(read())
    assert (ours["event"], ours["logger"], ours["n"]) == ("hello", "ours", 1)
    assert (theirs["event"], theirs["level"]) == (f"with {HIDDEN}", "error")
    assert (warning["logger"], "beware" in warning["event"]) == ("py.warnings", True)
    assert (last["event"], last["level"]) == ("uncaught", "critical")
    assert "ZeroDivisionError" in last["exception"]
    assert {"event", "level", "logger", "timestamp"} <= ours.keys() & theirs.keys()


# ---------------------------------------------------------------- stacks


async def test_sigusr1_tells_where_everything_stands(house, requester, gate):
    """Threads and tasks of the service are in one record, and it goes on with its work."""
    service = house.service()
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL})
    await asyncio.to_thread(gate.reached)
    service.signal(signal.SIGUSR1)
    record = await asyncio.to_thread(service.wait, "stacks")
    assert any(name.startswith("MainThread") for name in record["threads"])
    chains = [" ".join(chain) for chain in record["tasks"].values()]
    # A task that runs just then awaits nothing: it is on its thread's stack instead.
    stands = [*chains, *(" ".join(calls) for calls in record["threads"].values())]
    assert any("Flights._fly" in each and "GpuProcess.generate" in each for each in stands)
    assert any("uvicorn" in chain for chain in chains), "the loop of the HTTP face, too"
    gate.open()
    assert json.loads((await requester.reply()).body)["success"]


STANDS_STILL = """
import asyncio, logging, signal, sys, time
from consumer import logs, stacks

async def stand_still():
    print("still", flush=True)
    while True:
        sum(range(10_000))

logs.configure("json", "info")
with stacks.told_on_signal():
    asyncio.run(stand_still())
"""


def test_an_event_loop_that_stands_still_is_told():
    """The record comes although the loop never gets to anything: this is when it is needed."""
    with subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "still\n"
            process.send_signal(signal.SIGUSR1)
            record = json.loads(process.stderr.readline())
        finally:
            process.kill()
    main = next(calls for name, calls in record["threads"].items() if "MainThread" in name)
    assert main[-1].endswith("in stand_still"), main


def test_the_signal_is_as_before_afterwards():
    """Twice in a row, in one process: each block takes its own thread and descriptors away."""
    before = signal.getsignal(signal.SIGUSR1), threading.active_count()
    for _ in range(2):
        with stacks.told_on_signal():
            assert signal.getsignal(signal.SIGUSR1) is not before[0]
    assert (signal.getsignal(signal.SIGUSR1), threading.active_count()) == before
