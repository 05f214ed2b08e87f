"""The metrics: one table of everything that is counted, in a registry of our own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from consumer.job import SETTLEMENT
from schemas.errors import ERRORS

_SECONDS = (0.2, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
"""Buckets for work of 0.2 to 600 s."""

STAGES = ("text_encode", "denoise", "vae_decode", "encode")
REPLY_ENDS = ("confirmed", "returned", "nacked", "refused", "forgotten")


class Metrics:
    """Every metric, with every label value initialised to zero."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "imagegen_requests", "Requests settled.", ["outcome"], registry=registry
        )
        self.errors = Counter(
            "imagegen_errors", "Error replies by code.", ["code"], registry=registry
        )
        self.deliveries = Counter(
            "imagegen_deliveries", "Deliveries received.", ["redelivered"], registry=registry
        )
        self.replies = Counter(
            "imagegen_replies", "Ends of publishing a reply.", ["end"], registry=registry
        )
        self.replays = Counter(
            "imagegen_replays", "Answers given from a stored result.", registry=registry
        )
        self.joins = Counter(
            "imagegen_joins", "Deliveries that joined a running job.", registry=registry
        )
        self.parked = Counter(
            "imagegen_parked", "Messages put into the parking queue.", registry=registry
        )
        self.child_restarts = Counter(
            "imagegen_child_restarts", "GPU processes replaced.", registry=registry
        )
        self.reconnects = Counter(
            "imagegen_reconnects", "Broker sessions lost.", registry=registry
        )
        self.in_progress = Gauge(
            "imagegen_in_progress", "Deliveries in hand.", registry=registry
        )
        self.ready = Gauge(
            "imagegen_ready", "1 when the service can take work.", registry=registry
        )
        self.queue_wait = Histogram(
            "imagegen_queue_wait_seconds",
            "From the publish to the start.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.generation = Histogram(
            "imagegen_generation_seconds",
            "From the start on the GPU to the encoded image.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "imagegen_stage_duration_seconds",
            "Duration of a stage.",
            ["stage"],
            buckets=(0.005, 0.02, 0.05, 0.1, *_SECONDS),
            registry=registry,
        )
        self.build = Info("imagegen_build", "Versions.", registry=registry)
        self._initialise()

    def _initialise(self) -> None:
        for outcome in SETTLEMENT:
            self.requests.labels(outcome.__name__.lower())
        for code, spec in ERRORS.items():
            if spec.amqp:
                self.errors.labels(code.value)
        for redelivered in ("true", "false"):
            self.deliveries.labels(redelivered)
        for end in REPLY_ENDS:
            self.replies.labels(end)
        for stage in STAGES:
            self.stages.labels(stage)

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)
