"""What the operator sees, reviewed: each way a request ends is counted, told in a line, and traced."""

import asyncio
import io
import json
import logging
import math
import sys
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from consumer import logs, tracing
from consumer.doctor import (
    machine,
    model_verdicts,
    place_verdicts,
    report,
    store,
    torch_build,
)
from consumer.doctor.asking import Asked
from consumer.doctor.examine import _clocks, examine
from consumer.doctor.management import Managed
from consumer.doctor.torch_build import NoTorch
from consumer.doctor.verdict import Level
from consumer.logs import Scrubber
from consumer.settings import SettingsError, read_settings
from tests.proxy import BASIC_ACK, FrameProxy
from tests.rpc import Requester
from tests.test_metrics import exposed

SMALL = {"width": 256, "height": 256}


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
async def busy(house, requester, gate):
    """Have a service at work, so that what comes waits in the queue; it goes on at the end."""

    async def start():
        service = house.service()
        await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, reply_to=None)
        await asyncio.to_thread(gate.reached)
        return service

    yield start
    gate.open()


class Seen:
    """What became of the numbers of a service since it was looked at first."""

    def __init__(self, service):
        self._service = service
        self._before = self._now()

    def _now(self):
        return exposed(self._service.get("/metrics")[2].decode())

    async def __call__(self, name, **labels):
        """By how much a metric has grown."""
        key = f"imagegen_{name}", frozenset(labels.items())
        return (await asyncio.to_thread(self._now))[key] - self._before[key]


async def line(service, **fields):
    """The line of a job that was settled; there is one only."""
    told = await asyncio.to_thread(service.wait, "settled", **fields)
    same = [
        record
        for record in service.records
        if record["event"] == "settled" and record["correlation_id"] == told["correlation_id"]
    ]
    assert same == [told]
    return told


# ---------------------------------------------------------------- counted on every way


async def test_a_failure_that_nobody_waits_for_is_an_error_as_well(house, requester):
    """A job without reply_to, as POST /generate/async sends it, is in the share of failures."""
    service = house.service()
    grew = Seen(service)
    await requester.publish({"prompt": "boom", **SMALL}, reply_to=None, message_id="unheard")
    told = await line(service, job_id="unheard")
    assert (told["outcome"], told["code"], told["reply"]) == ("failed", "internal", "none")
    assert await grew("errors_total", code="internal") == 1
    assert await grew("requests_total", outcome="failed") == 1
    assert await grew("request_duration_seconds_count") == 0


async def test_an_answer_that_is_too_large_is_told_as_what_it_is(house, requester):
    """The caller hears result_too_large, and so do the log and the numbers."""
    service = house.service(MAX_REPLY_BYTES=65_536)
    grew = Seen(service)
    body = {"prompt": "x", "width": 1536, "height": 1536}
    reply = await requester.ask(body, message_id="too-large")
    assert reply["error"]["code"] == "result_too_large"
    told = await line(service, job_id="too-large")
    assert (told["outcome"], told["code"], told["reply"]) == (
        "refused",
        "result_too_large",
        "confirmed",
    )
    assert told["bytes"] > 49_152 - 1
    assert await grew("errors_total", code="result_too_large") == 1
    assert await grew("requests_total", outcome="refused") == 1
    assert await grew("requests_total", outcome="succeeded") == 0
    assert await grew("replies_total", kind="error", outcome="confirmed") == 1
    assert await grew("replies_total", kind="result", outcome="confirmed") == 0


async def test_what_ran_out_in_the_queue_is_counted_and_told_like_any_other(requester, busy):
    """A dead letter has its line with ids, wait and trace, and counts as expired.

    How long it waited is in the histogram by which the alert on long waits goes.
    """
    service = await busy()
    grew = Seen(service)
    trace = "0af7651916cd43dd8448eb211c80319c"
    old = datetime.now(tz=UTC) - timedelta(seconds=90)
    await requester.publish(
        {"prompt": "x", **SMALL},
        expiration=0,
        timestamp=old,
        message_id="late",
        correlation_id="caller-late",
        headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
    )
    assert json.loads((await requester.reply()).body)["error"]["code"] == "deadline_exceeded"
    told = await line(service, correlation_id="caller-late")
    wanted = {
        "job_id": "late",
        "trace_id": trace,
        "outcome": "expired",
        "code": "deadline_exceeded",
        "reply": "confirmed",
        "dead_letter": "expired",
    }
    assert {name: told.get(name) for name in wanted} == wanted
    assert 89 < told["waited_s"] < 120
    for name, labels in (
        ("requests_total", {"outcome": "expired"}),
        ("errors_total", {"code": "deadline_exceeded"}),
        ("replies_total", {"kind": "error", "outcome": "confirmed"}),
        ("settlements_total", {"settlement": "ack"}),
        ("queue_wait_seconds_count", {}),
        ("request_duration_seconds_count", {}),
        ("ack_age_seconds_count", {}),
    ):
        assert await grew(name, **labels) == 1, name
    assert await grew("queue_wait_seconds_sum") > 89


async def test_a_dead_letter_that_is_parked_is_counted_as_parked(requester, busy):
    """The alert on parked requests has to hear of those, too."""
    service = await busy()
    grew = Seen(service)
    await requester.publish(
        {"prompt": "x", **SMALL},
        expiration=0,
        reply_to="imagegen.requests",
        correlation_id="astray",
    )
    told = await line(service, correlation_id="astray")
    assert (told["outcome"], told["parked"]) == ("unanswerable", "reply_to_not_allowed")
    assert await grew("parked_total", reason="reply_to_not_allowed") == 1
    assert await grew("requests_total", outcome="unanswerable") == 1


async def test_a_parked_copy_is_no_answer(house, requester):
    """Where nobody was told, the line does not say that a reply was confirmed."""
    service = house.service()
    await requester.publish(b"{", reply_to=None, correlation_id="nobody")
    told = await line(service, correlation_id="nobody")
    assert (told["reply"], told["parked"]) == ("none", "invalid_request")


async def test_who_fails_has_waited_as_well(house, requester):
    """The wait is that of every job that began, once each, though it was tried twice."""
    service = house.service()
    grew = Seen(service)
    await requester.ask({"prompt": "nan", **SMALL}, message_id="waited")
    await line(service, job_id="waited")
    assert await grew("queue_wait_seconds_count") == 1


async def test_what_is_forgotten_is_counted_and_told_once(house, requester, broker):
    """Where the link dies before the broker's word, the redelivery is what counts.

    One error, one line of the end; the log says of the first that it was forgotten.
    """
    async with FrameProxy(broker.url("imagegen-consumer")) as proxy:
        service = await asyncio.to_thread(house.restart, AMQP_URL=proxy.url)
        grew = await asyncio.to_thread(Seen, service)
        proxy.hold("broker", BASIC_ACK)
        await requester.publish(
            {"prompt": "boom", **SMALL}, message_id="twice", correlation_id="twice"
        )
        await asyncio.wait_for(proxy.held.wait(), 30)
        proxy.cut()
        told = await line(service, correlation_id="twice")
        assert (told["code"], told["redelivered"]) == ("internal", True)
        forgotten = await asyncio.to_thread(service.wait, "forgotten", job_id="twice")
        assert (forgotten["outcome"], forgotten["redelivered"]) == ("failed", False)
        assert await grew("errors_total", code="internal") == 1
        assert await grew("requests_total", outcome="failed") == 1
        assert await grew("replies_total", kind="error", outcome="forgotten") == 1
        assert await grew("deliveries_total", redelivered="true") == 1
        await asyncio.to_thread(house.stop)


# ---------------------------------------------------------------- the log


@pytest.fixture
def told(monkeypatch):
    """Configure the logs of this process, and read what is told; all is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        logs.configure("json", "info", ["postgresql://h/db?user=u&password=queried-secret"])
        yield stream.getvalue
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before


def _no_number(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize(
    ("value", "as_told"),
    [
        (math.nan, "nan"),
        ([math.inf], ["inf"]),
        (b"\xff\n", repr(b"\xff\n")),
        ({b"key": {(1, 2): 3}}, {"b'key'": {"(1, 2)": 3}}),
        ("a\nb\u2028", "a\nb\u2028"),
    ],
    ids=repr,
)
def test_whatever_is_told_is_one_line_of_json(told, value, as_told):
    """A number that JSON does not have, bytes, keys that are no text: a shipper reads each line."""
    logs.logger("test").info("odd", value=value)
    (line,) = told().splitlines()
    assert json.loads(line, parse_constant=_no_number)["value"] == as_told


def test_a_record_that_cannot_be_told_tells_no_arguments(told):
    """The library's own complaint would show them as they are, on many lines."""
    broken = logging.LogRecord(
        "theirs", logging.ERROR, __file__, 1, "wrong %d", ("queried-secret",), None
    )
    # Ours alone: that of the test's own machinery raises.
    logging.getLogger().handlers[0].handle(broken)
    (line,) = told().splitlines()
    record = json.loads(line)
    assert (record["event"], record["of"]) == ("record_broke", "theirs")
    assert "queried-secret" not in line


def test_a_password_in_a_urls_query_is_a_secret(told):
    """PostgreSQL takes it there as well."""
    logs.logger("test").info("said queried-secret")
    assert json.loads(told())["event"] == f"said {logs.HIDDEN}"


async def test_a_defect_that_quotes_the_prompt_does_not_bring_it_into_our_records(
    house, requester
):
    """What the GPU process says of its failure is told without the prompt."""
    service = house.service()
    await requester.ask({"prompt": "quote a heron at dawn", **SMALL}, message_id="quoted")
    await line(service, job_id="quoted")
    record = service.wait("drawing_failed")
    assert "cannot draw" in record["problem"]
    assert "pipelines.py" in record["frames"]
    assert not any("heron" in line for line in service.lines)


# ---------------------------------------------------------------- the spans


@pytest.fixture
def spans(monkeypatch):
    """Spans that end in this process, with a provider of their own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", lambda: provider.get_tracer("test"))
    return exporter.get_finished_spans


class StoppedError(Exception):
    """What a stage was called off with."""


def test_a_stage_that_was_called_off_is_no_error(spans):
    """A job that is cancelled, ran out or is given back makes no error in the traces."""
    with pytest.raises(StoppedError), tracing.stage("generate", StoppedError):
        raise StoppedError
    (span,) = spans()
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


def test_a_stage_that_failed_tells_by_what_and_not_its_words(spans):
    """They may hold the prompt; the type says enough to look in the log."""
    with pytest.raises(ValueError, match="heron"), tracing.stage("generate", StoppedError):
        raise ValueError("cannot draw a heron")
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert "heron" not in span.to_json()


# ---------------------------------------------------------------- the doctor


@pytest.mark.parametrize("host", ["h:99999", "h:port", "[::1", "h:0"])
@pytest.mark.parametrize("name", ["AMQP_URL", "HTTP_AMQP_URL"])
def test_a_broker_url_that_cannot_be_read_is_refused_as_a_setting(name, host):
    """Not by a traceback, at the start or in the doctor; and not with its password."""
    with pytest.raises(SettingsError) as refused:
        read_settings({f"IMAGE_GEN_{name}": f"amqp://u:hunter2secret@{host}/v"})
    (sentence,) = refused.value.sentences
    assert sentence.startswith(f"IMAGE_GEN_{name} is no amqp://")
    assert "hunter2secret" not in sentence


@pytest.mark.parametrize("url", ["hunter2secret", "mysql://u:hunter2secret@h/x"])
def test_a_store_of_no_kind_is_told_as_a_setting(url):
    """Nobody is sent to start a database that the service would not use."""
    verdict = model_verdicts.judge_store(store.look(url), 1)
    assert verdict.level is Level.FAIL
    assert "sqlite:////absolute/path" in verdict.finding
    assert verdict.remedy == "correct IMAGE_GEN_STORE_URL"
    assert "hunter2secret" not in verdict.finding


def test_a_host_that_has_no_address_is_the_hosts_setting():
    """The remedy names what to correct."""
    verdict = place_verdicts.judge_port(machine.port("no-such-host.invalid", 8034))
    assert verdict.level is Level.FAIL
    assert "IMAGE_GEN_HOST" in verdict.remedy


def test_a_check_that_breaks_leaves_the_others_be(monkeypatch, tmp_path, capsys):
    """Each check has its line, as JSON too, whatever breaks in one; and the exit code says so."""

    def no_torch():
        return NoTorch("not asked for here")

    def broken(_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(torch_build, "ask", no_torch)
    monkeypatch.setattr(place_verdicts, "judge_port", broken)
    settings = read_settings(
        {
            "IMAGE_GEN_AMQP_URL": "amqp://u:hunter2secret@127.0.0.1:9/v",
            "IMAGE_GEN_MODEL": "builtin",
            "IMAGE_GEN_DATA_DIR": str(tmp_path),
        }
    )
    assert report.tell(examine(settings), Scrubber(), as_json=True) == 1
    verdicts = {
        told["check"]: told for told in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert list(verdicts)[-1] == "clock"
    assert verdicts["port"]["level"] == "fail"
    assert "ZeroDivisionError: a defect" in verdicts["port"]["finding"]
    assert verdicts["store"]["level"] == "ok"


def test_a_store_that_does_not_answer_is_no_matter_of_the_clock():
    """The broker tells the time all the same, and the store has a check of its own."""

    def silent():
        raise OSError("away")

    looks = SimpleNamespace(
        managed=Asked(lambda: Managed(ahead_s=70.0), 5.0), store=Asked(silent, 5.0)
    )
    verdict = place_verdicts.judge_clock(_clocks(looks))
    assert verdict.level is Level.FAIL
    assert verdict.finding.startswith("The clock of the broker is 70 s ahead of ours")
