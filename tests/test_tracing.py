"""The traces: from the caller's span over the queue to every stage of its picture."""

import asyncio
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from consumer.service import Service
from consumer.settings import read_settings
from imagegen_client import Busy, GenerationFailed, ImageClient, InvalidRequest
from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STAGES = {"validate", "store", "generate", "encode", "publish"}
ON_GPU = {"text_encode", "denoise", "vae_decode"}


class Exporter(InMemorySpanExporter):
    """Spans in memory, whose arrival can be waited for."""

    def __init__(self):
        super().__init__()
        self.news = threading.Condition()

    def export(self, spans):
        with self.news:
            exported = super().export(spans)
            self.news.notify_all()
        return exported


@pytest.fixture(scope="session")
def exporter():
    """Spans of this process; a provider can be set once only."""
    exporter = Exporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter):
    """Return the finished spans, by name or all."""
    exporter.clear()

    def finished(name=None):
        return [span for span in exporter.get_finished_spans() if name in {None, span.name}]

    finished.news = exporter.news
    return finished


@pytest.fixture
async def service(broker, tmp_path, spans):
    """A service in this process, whose spans are seen; ready."""
    broker.purge()
    settings = read_settings(
        {
            "IMAGE_GEN_AMQP_URL": broker.url("imagegen-consumer"),
            "IMAGE_GEN_PORT": "0",
            "IMAGE_GEN_DATA_DIR": str(tmp_path),
            "IMAGE_GEN_MODEL": "scripted",
            "IMAGE_GEN_PIPELINE": "tests.pipelines:Scripted",
        }
    )
    service = Service(settings)
    connected = asyncio.Event()
    service._broker.on_change(connected.set)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        async with asyncio.timeout(60):
            await connected.wait()
        yield service
        service._stopping.set()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


async def ended(spans, name, count=1):
    """Return the spans of this name once there are as many: the last ends after the reply."""

    def wait():
        with spans.news:
            assert spans.news.wait_for(lambda: len(spans(name)) >= count, 60), spans()

    await asyncio.to_thread(wait)
    return spans(name)


async def test_one_trace_from_the_caller_to_every_stage(service, spans, broker):
    """The caller's span is the root; its send, our process and each stage hang on one another."""
    tracer = trace.get_tracer("chat")
    async with ImageClient(broker.url()) as client:
        with tracer.start_as_current_span("chat") as root:
            image = await client.generate("step=0.01", **SMALL)
    (process,) = await ended(spans, "process imagegen.requests")
    (send,) = spans("send imagegen.requests")
    assert send.parent.span_id == root.get_span_context().span_id
    assert process.parent.span_id == send.context.span_id
    inner = [
        span for span in spans() if span.parent == process.context or inside(span, process)
    ]
    assert {span.name for span in inner} == STAGES
    (generate,) = spans("generate")
    on_gpu = [span for span in spans() if inside(span, generate)]
    assert {span.name for span in on_gpu} == ON_GPU
    assert {span.context.trace_id for span in (root, send, process, *inner, *on_gpu)} == {
        root.get_span_context().trace_id
    }
    (denoise,) = spans("denoise")
    assert denoise.end_time - denoise.start_time == pytest.approx(0.08e9)
    assert generate.start_time <= denoise.start_time <= denoise.end_time <= generate.end_time
    assert image.attempt == 1


def inside(span, outer):
    return span.parent is not None and span.parent.span_id == outer.context.span_id


async def test_spans_speak_the_conventions(service, spans, broker):
    """Kinds and attributes are those of messaging; the prompt is nowhere in them."""
    async with ImageClient(broker.url()) as client:
        await client.generate("a heron", job_id="named", **SMALL)
    (process,) = await ended(spans, "process imagegen.requests")
    (send,), (publish,) = spans("send imagegen.requests"), spans("publish")
    kinds = [span.kind for span in (send, process, publish)]
    assert kinds == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.PRODUCER]
    for span, operation, kind in ((send, "send", "send"), (process, "process", "process")):
        told = span.attributes
        assert told["messaging.system"] == "rabbitmq"
        assert told["messaging.operation.name"] == operation
        assert told["messaging.operation.type"] == kind
        assert told["messaging.destination.name"] == "imagegen:imagegen.requests"
        assert told["messaging.rabbitmq.destination.routing_key"] == "imagegen.requests"
        assert told["messaging.message.id"] == "named"
        assert told["messaging.message.body.size"] > 0
    conversations = {
        span.attributes["messaging.message.conversation_id"] for span in (send, process)
    }
    assert len(conversations) == 1
    assert process.attributes["imagegen.job_id"] == "named"
    assert process.attributes["imagegen.outcome"] == "succeeded"
    assert not any("heron" in span.to_json() for span in spans())


async def test_a_plain_callers_trace_goes_on(service, spans, requester):
    """A `traceparent` header is enough; one that is none begins a trace of its own."""
    await requester.ask({"prompt": "x", **SMALL}, headers={"traceparent": TRACEPARENT})
    (process,) = await ended(spans, "process imagegen.requests")
    assert trace.format_trace_id(process.context.trace_id) == TRACE
    assert trace.format_span_id(process.parent.span_id) == "b7ad6b7169203331"
    await requester.ask({"prompt": "x", **SMALL}, headers={"traceparent": 7, "baggage": "a=b"})
    other = (await ended(spans, "process imagegen.requests", 2))[1]
    assert other.parent is None


async def test_what_failed_is_marked(service, spans, broker):
    """Our failure makes the span an error with its code; a caller's mistake does not."""
    async with ImageClient(broker.url()) as client:
        with pytest.raises(GenerationFailed):
            await client.generate("boom", job_id="ours", **SMALL)
        with pytest.raises(InvalidRequest):
            await client.generate("", job_id="theirs")
    by_job = {
        span.attributes["imagegen.job_id"]: span
        for span in await ended(spans, "process imagegen.requests", 2)
    }
    assert by_job["ours"].status.status_code is StatusCode.ERROR
    assert by_job["ours"].attributes["error.type"] == "internal"
    assert by_job["theirs"].status.status_code is StatusCode.UNSET
    assert by_job["theirs"].attributes["imagegen.code"] == "invalid_request"
    assert "error.type" not in by_job["theirs"].attributes


async def test_a_send_that_was_refused_is_marked(spans, broker):
    """A full queue is told on the client's span."""
    broker.purge()
    async with ImageClient(broker.url()) as client:
        for _ in range(20):
            await client.send("x", **SMALL)
        with pytest.raises(Busy):
            await client.send("x", **SMALL)
    broker.purge()
    *sent, refused = spans("send imagegen.requests")
    assert {span.status.status_code for span in sent} == {StatusCode.UNSET}
    assert refused.attributes["error.type"] == "full"
    assert refused.status.status_code is StatusCode.ERROR


# ---------------------------------------------------------------- as it is run


class Collector(HTTPServer):
    """What a collector hears by OTLP over HTTP."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Take)
        self.heard = []


class _Take(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            raise AssertionError("not asked for")
        self.server.heard.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


async def test_a_service_sends_its_spans(serve, requester, collector, monkeypatch):
    """With OTEL_EXPORTER_OTLP_ENDPOINT set, a stop sends the last spans under the service's name."""
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    service = serve().wait_ready()
    await requester.ask({"prompt": "x", **SMALL}, headers={"traceparent": TRACEPARENT})
    await asyncio.to_thread(service.wait, "settled", trace_id=TRACE)
    assert await asyncio.to_thread(service.stop) == 0
    resources = [told for request in collector.heard for told in request.resource_spans]
    named = {item.key: item.value.string_value for item in resources[0].resource.attributes}
    assert (named["service.name"], named["service.instance.id"]) == ("imagegen", "tester")
    sent = {
        span.name
        for told in resources
        for scope in told.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == TRACE
    }
    assert sent == STAGES | ON_GPU | {"process imagegen.requests"}


async def test_a_collector_that_is_away_costs_nothing(serve, requester, monkeypatch):
    """Pictures are drawn, and the stop is in order."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    service = serve().wait_ready()
    assert (await requester.ask({"prompt": "x", **SMALL}))["success"]
    assert await asyncio.to_thread(service.stop) == 0


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
import consumer.service
from consumer import tracing
from imagegen_client import tracing as client_tracing
import aio_pika, json, os
assert not tracing.AVAILABLE and not client_tracing.AVAILABLE
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
from consumer import logs
logs.configure("json", "info")
tracing.set_up("w")()
message = aio_pika.Message(b"x")
with client_tracing.sending("imagegen", "imagegen.requests", message) as tell:
    tell("full")
with tracing.processing(message, "q"), tracing.stage("validate"), tracing.publishing(True):
    tracing.stages({"denoise": 1.0}, 0.0)
    tracing.tell(joined=True)
    tracing.tell_end("id", "failed", "internal")
print(json.dumps([tracing.trace_id({"traceparent": sys.argv[1]}), dict(message.headers)]))
"""


def test_without_opentelemetry_there_are_no_spans_and_no_errors():
    """The extra is not installed: all goes on, the log tells the caller's trace all the same."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, TRACEPARENT],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [TRACE, {}]
    assert json.loads(ran.stderr)["remedy"] == "pip install 'imagegen[tracing]'"
