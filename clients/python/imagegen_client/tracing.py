"""The `send` span: who asks for a picture begins its trace; nothing without OpenTelemetry.

Names and attributes follow OpenTelemetry's conventions for messaging and RabbitMQ
(https://opentelemetry.io/docs/specs/semconv/messaging/). Prompts are not in them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # it was not installed
    AVAILABLE = False
else:
    AVAILABLE = True

if TYPE_CHECKING:
    import aio_pika
    from opentelemetry.trace import Span

CONFIRMED = "confirmed"

Tell = Callable[[str], None]
"""Takes what became of the publish: `confirmed`, or why it was not."""


@contextlib.contextmanager
def sending(exchange: str, routing_key: str, message: "aio_pika.Message") -> Iterator[Tell]:
    """Have a span around a publish and its confirm, and name it to who gets the message."""
    if not AVAILABLE:
        yield _nothing
        return
    tracer = trace.get_tracer("imagegen_client")
    with tracer.start_as_current_span(
        f"send {routing_key or exchange}",
        kind=trace.SpanKind.PRODUCER,
        attributes=_of_message(exchange, routing_key, message),
    ) as span:
        carrier: dict[str, str] = {}
        # Not the propagators that are set for the process: no baggage is given away.
        TraceContextTextMapPropagator().inject(carrier)
        message.headers.update(carrier)
        yield lambda told: _tell(span, told)


def _nothing(_told: str) -> None:
    pass


def _tell(span: "Span", told: str) -> None:
    if told != CONFIRMED:
        span.set_attribute("error.type", told)
        span.set_status(trace.StatusCode.ERROR)


def _of_message(
    exchange: str, routing_key: str, message: "aio_pika.Message"
) -> dict[str, str | int]:
    told: dict[str, str | int | None] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": ":".join(
            part for part in (exchange, routing_key) if part
        ),
        "messaging.rabbitmq.destination.routing_key": routing_key or None,
        "messaging.message.id": message.message_id,
        "messaging.message.conversation_id": message.correlation_id,
        "messaging.message.body.size": len(message.body),
    }
    return {name: value for name, value in told.items() if value is not None}
