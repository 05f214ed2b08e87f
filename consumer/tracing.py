"""The traces: a span for each delivery, one for each stage of its job; nothing without OpenTelemetry.

Names and attributes follow OpenTelemetry's conventions for messaging and RabbitMQ
(https://opentelemetry.io/docs/specs/semconv/messaging/). Prompts are not in them.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from consumer import VERSION
from consumer.logs import logger

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra `tracing` is not installed
    AVAILABLE = False
else:
    AVAILABLE = True

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage
    from opentelemetry.trace import Tracer

log = logger(__name__)

WANTED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own variables: one of them tells where the spans go, such as
`http://127.0.0.1:4318`; without, none are sent."""
LAST_SPANS_S = 3.0
"""How long a stop waits until the last spans are sent, to a collector that may be away."""
LINK_HEADERS = ("traceparent", "tracestate")
NOT_OURS = frozenset({"refused", "expired", "cancelled", "abandoned", "givenback"})
"""Ends that are no errors of the service: what was asked for was done, or could not be."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

Attributes = Mapping[str, str | bool | int | float]


# ---------------------------------------------------------------- where spans go


def set_up(worker: str) -> Callable[[], None]:
    """Have spans sent where OpenTelemetry's variables say. Returns what sends the last of them."""
    if not any(os.environ.get(name) for name in WANTED_BY):
        return _nothing
    try:
        return _send_by_otlp(worker)
    except ImportError:
        log.warning(
            "traces_not_sent",
            problem=f"{WANTED_BY[0]} is set, and OpenTelemetry is not installed.",
            remedy="pip install 'imagegen[tracing]'",
        )
        return _nothing


def _send_by_otlp(worker: str) -> Callable[[], None]:
    """Send by OTLP over HTTP, in batches, in a thread of the SDK's. Raises ImportError."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    ours = {
        "service.name": "imagegen",
        "service.version": VERSION,
        "service.instance.id": worker,
    }
    # What the operator says of us (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) goes first.
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(LAST_SPANS_S)

    return stop


def _nothing() -> None:
    pass


# ---------------------------------------------------------------- a delivery and its stages


@contextlib.contextmanager
def processing(message: "AbstractIncomingMessage", queue: str) -> Iterator[None]:
    """Have a span around all that is done for a delivery; its caller's trace goes on in it."""
    if not AVAILABLE:
        yield
        return
    headers = {
        name: value
        for name in LINK_HEADERS
        if isinstance(value := message.headers.get(name), str)
    }
    with _tracer().start_as_current_span(
        f"process {queue}",
        # Not the propagators that are set for the process: no caller's baggage is taken.
        context=TraceContextTextMapPropagator().extract(headers),
        kind=trace.SpanKind.CONSUMER,
        attributes=_of_message(message, queue),
    ):
        yield


@contextlib.contextmanager
def stage(
    name: str, stopped_by: type[Exception] | tuple[()] = (), **attributes: str
) -> Iterator[None]:
    """Have a span around a stage of the job, inside that of its delivery.

    An exception makes it an error, unless it is `stopped_by`: then it was called off. Of any other
    only the type is told: its words may hold the prompt, and the log has them.
    """
    if not AVAILABLE:
        yield
        return
    told = {f"imagegen.{key}": value for key, value in attributes.items()}
    with _tracer().start_as_current_span(
        name, attributes=told, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except stopped_by:
            raise
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            raise


@contextlib.contextmanager
def publishing(anonymous: bool) -> Iterator[None]:  # noqa: FBT001 - what the convention calls it
    """Have a span around the publish of an answer, until the broker confirms it."""
    if not AVAILABLE:
        yield
        return
    attributes: Attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        # A caller's reply queue: no name of ours, and another one for each caller.
        "messaging.destination.temporary": True,
        "messaging.destination.anonymous": anonymous,
    }
    with _tracer().start_as_current_span(
        "publish", kind=trace.SpanKind.PRODUCER, attributes=attributes
    ):
        yield


def stages(seconds: Mapping[str, float], began: float) -> None:
    """Add a span for each stage that the GPU process tells of, one after the other.

    Args:
        seconds: how long each took, in their order.
        began: when the first began, in seconds of the monotonic clock.
    """
    if not AVAILABLE:
        return
    start_ns = time.time_ns() - round((time.monotonic() - began) * 1e9)
    for name, lasted in seconds.items():
        end_ns = start_ns + round(lasted * 1e9)
        _tracer().start_span(name, start_time=start_ns).end(end_ns)
        start_ns = end_ns


def tell(**facts: str | bool | int | None) -> None:
    """Add facts to the span of the moment; those that are None are left out."""
    if AVAILABLE:
        told = {f"imagegen.{key}": value for key, value in facts.items() if value is not None}
        trace.get_current_span().set_attributes(told)


def tell_end(job_id: str, outcome: str, code: str | None) -> None:
    """Add to the span of a delivery what became of it; an error of the service makes it one."""
    tell(job_id=job_id or None, outcome=outcome, code=code)
    if AVAILABLE and code is not None and outcome not in NOT_OURS:
        span = trace.get_current_span()
        span.set_attribute("error.type", code)
        span.set_status(trace.StatusCode.ERROR)


def trace_id(headers: Mapping[str, object]) -> str | None:
    """Return the id of the trace that a delivery belongs to, in hexadecimal; by its caller's word.

    It holds without OpenTelemetry, too: what the log says is found by the caller's trace.
    """
    if AVAILABLE:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return trace.format_trace_id(context.trace_id)
    told = headers.get("traceparent")
    match = _TRACEPARENT.fullmatch(told) if isinstance(told, str) else None
    return match["trace"] if match and set(match["trace"]) != {"0"} else None


def _tracer() -> "Tracer":
    return trace.get_tracer("imagegen", VERSION)


def _of_message(message: "AbstractIncomingMessage", queue: str) -> Attributes:
    told: dict[str, str | bool | int | None] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": _destination(
            message.exchange, message.routing_key, queue
        ),
        "messaging.rabbitmq.destination.routing_key": message.routing_key,
        "messaging.rabbitmq.message.delivery_tag": message.delivery_tag,
        "messaging.message.id": message.message_id,
        "messaging.message.conversation_id": message.correlation_id,
        "messaging.message.body.size": len(message.body),
        "imagegen.redelivered": bool(message.redelivered),
    }
    return {name: value for name, value in told.items() if value is not None}


def _destination(exchange: str | None, routing_key: str | None, queue: str) -> str:
    """Return the destination as the convention for RabbitMQ has it: equal and empty parts once."""
    parts = (exchange, routing_key, queue if queue != routing_key else None)
    return ":".join(part for part in parts if part)
