"""The metrics: one table of everything that is counted, in a registry of our own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from consumer.gpu.child import Parting
from consumer.job import SETTLEMENT
from schemas.errors import ERRORS
from schemas.reply import ResultFacts

_SECONDS = (0.2, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
"""Buckets for work of 0.2 to 600 s."""

STAGES = ("text_encode", "denoise", "vae_decode", "encode")
WASTED_BY = (
    "cancelled",
    "expired",
    "abandoned",
    "shutdown",
    "died",
    "hung",
    "out_of_memory",
    "nan_output",
    "failed",
)
SAVED_BY = ("cancelled", "expired", "abandoned", "replayed", "joined")
PARKED_FOR = (
    "poison",
    "internal",
    "unreadable_properties",
    "reply_to_not_allowed",
    "invalid_request",
    "unsupported_version",
    "request_too_large",
)
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
            "imagegen_parked",
            "Messages put into the parking queue.",
            ["reason"],
            registry=registry,
        )
        self.child_restarts = Counter(
            "imagegen_child_restarts", "GPU processes replaced.", ["reason"], registry=registry
        )
        self.gpu_useful = Counter(
            "imagegen_gpu_seconds_useful",
            "GPU seconds of pictures that were answered.",
            registry=registry,
        )
        self._gpu_wasted = Counter(
            "imagegen_gpu_seconds_wasted",
            "GPU seconds that led to no picture.",
            ["reason"],
            registry=registry,
        )
        self._gpu_saved = Counter(
            "imagegen_gpu_seconds_saved",
            "GPU seconds that were not spent: on dead work (estimated from the measured time of "
            "the size), or on a picture that was there already.",
            ["reason"],
            registry=registry,
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
        self.store_available = Gauge(
            "imagegen_store_available", "1 while the store can be written.", registry=registry
        )
        self.consuming = Gauge(
            "imagegen_consuming", "1 while the broker hands out requests.", registry=registry
        )
        self.tasks = Gauge(
            "imagegen_tasks", "Tasks of the service's event loop.", registry=registry
        )
        self.queue_waiting = Gauge(
            "imagegen_queue_waiting",
            "Requests that wait in the queue; NaN while the broker cannot be asked.",
            registry=registry,
        )
        self.queue_consumers = Gauge(
            "imagegen_queue_consumers",
            "Consumers of the queue, on all machines; NaN as above.",
            registry=registry,
        )
        self.http_requests = Counter(
            "imagegen_http_requests",
            "HTTP requests to the job API, by the path's template and the status.",
            ["method", "path", "status"],
            registry=registry,
        )
        self.http_waiting = Gauge(
            "imagegen_http_waiting",
            "HTTP callers that wait for a picture or follow a job.",
            registry=registry,
        )
        ProcessCollector(registry=registry)
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
        for table, values in (
            (self.requests, [outcome.__name__.lower() for outcome in SETTLEMENT]),
            (self.errors, [code.value for code, spec in ERRORS.items() if spec.amqp]),
            (self.deliveries, ["true", "false"]),
            (self.replies, REPLY_ENDS),
            (self.stages, STAGES),
            (self._gpu_wasted, WASTED_BY),
            (self._gpu_saved, SAVED_BY),
            (self.parked, PARKED_FOR),
            (self.child_restarts, Parting),
        ):
            for value in values:
                table.labels(value)

    def waste(self, reason: str, seconds: float) -> None:
        """Count GPU seconds that led to no picture."""
        self._gpu_wasted.labels(reason).inc(seconds)

    def save(self, reason: str, seconds: float) -> None:
        """Count GPU seconds that were not spent."""
        self._gpu_saved.labels(reason).inc(seconds)

    def observe(self, facts: ResultFacts) -> None:
        """Take down how long a picture took, stage by stage."""
        self.queue_wait.observe(facts.timings.queued)
        self.generation.observe(facts.generation_time)
        for stage, seconds in facts.timings.model_dump(exclude={"queued"}).items():
            self.stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)
