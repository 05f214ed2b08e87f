"""The metrics: one table of everything that is counted, in a registry of our own."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

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
from consumer.gpu.protocol import Ready
from consumer.job import SETTLEMENT
from schemas.errors import ERRORS
from schemas.reply import ResultFacts
from schemas.request import MEDIA_TYPES
from schemas.sizes import LISTED_SIZES

M = TypeVar("M", Counter, Histogram)

PREFIX = "imagegen_"

_SECONDS = (0.2, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
"""Buckets for work of 0.2 to 600 s."""
_STAGE_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 4, 8, 15, 30, 60, 300)
_STEP_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8, 30)
"""Few, as there is a set of them for each stage and each size, and a scrape writes them all."""
_BYTES = tuple(1024 * n for n in (1, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 12288))
"""Buckets up to the largest reply, 12 MiB."""

OUTCOMES = tuple(outcome.__name__.lower() for outcome in SETTLEMENT)
CODES = tuple(code.value for code, spec in ERRORS.items() if spec.amqp)
STAGES = (
    "validate",
    "text_encode",
    "denoise",
    "vae_decode",
    "encode",
    "store",
    "publish",
)
SIZES = (*(f"{width}x{height}" for width, height in LISTED_SIZES), "other")
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
REPLY_KINDS = ("result", "error")
REPLY_OUTCOMES = ("confirmed", "returned", "nacked", "refused", "forgotten")
SETTLED_BY = ("ack", "requeue", "forgotten")
LOST_BY = (
    "connection_closed",
    "channel_closed",
    "server_cancel",
    "silent",
    "stuck",
    "not_attached",
)
"""The values of `consumer.connection.Loss`, which stands above us."""


class Kind(StrEnum):
    """What Prometheus makes of a metric; `SUFFIX` is what its name ends with for it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


SUFFIX = {Kind.COUNTER: "_total", Kind.GAUGE: "", Kind.HISTOGRAM: "", Kind.INFO: "_info"}

OPEN: tuple[str, ...] = ()
"""Values of a label that are not known beforehand, though few."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric."""

    name: str
    """Without prefix and suffix; the attribute of Metrics, too."""
    kind: Kind
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Every label with all its values."""
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """As Prometheus and the dashboard have it."""
        return f"{PREFIX}{self.name}{SUFFIX[self.kind]}"


def _counter(name: str, text: str, **labels: tuple[str, ...]) -> Row:
    return Row(name, Kind.COUNTER, text, labels)


def _gauge(name: str, text: str) -> Row:
    return Row(name, Kind.GAUGE, text)


def _info(name: str, text: str, *labels: str) -> Row:
    return Row(name, Kind.INFO, text, dict.fromkeys(labels, OPEN))


def _histogram(
    name: str, text: str, buckets: tuple[float, ...], **labels: tuple[str, ...]
) -> Row:
    return Row(name, Kind.HISTOGRAM, text, labels, buckets)


TABLE: tuple[Row, ...] = (
    # ---------------------------------------------------------- requests
    _counter("requests", "Requests settled.", outcome=OUTCOMES),
    _counter(
        "errors",
        "Requests that ended in an error, by its code; told to somebody or not.",
        code=CODES,
    ),
    _counter(
        "deliveries",
        "Deliveries received, dead letters among them.",
        redelivered=("true", "false"),
    ),
    _counter(
        "settlements",
        "Deliveries acked or given back to the queue; forgotten: their link had died before.",
        settlement=SETTLED_BY,
    ),
    _counter(
        "replies", "Ends of publishing a reply.", kind=REPLY_KINDS, outcome=REPLY_OUTCOMES
    ),
    _counter("replays", "Answers given from a stored result."),
    _counter("joins", "Deliveries that joined a running job."),
    _counter(
        "abandoned",
        "Jobs stopped because nobody waited any more, before or after they reached the GPU.",
        begun=("true", "false"),
    ),
    _counter("parked", "Messages put into the parking queue.", reason=PARKED_FOR),
    _gauge("in_progress", "Deliveries in hand."),
    _gauge("concurrency_limit", "Deliveries that may be in hand."),
    _gauge(
        "last_success_timestamp_seconds",
        "Unix time of the last picture that was drawn here; NaN before the first.",
    ),
    _histogram(
        "request_duration_seconds",
        "From the publish to the settled answer, of requests that were answered. AMQP timestamps "
        "are whole seconds, so up to 1 too much.",
        _SECONDS,
    ),
    _histogram(
        "queue_wait_seconds",
        "From the publish to the start on the GPU, whatever became of it; to the end of its time "
        "where a request ran out in the queue.",
        _SECONDS,
    ),
    _histogram(
        "ack_age_seconds", "From the receipt of a delivery to its settlement.", _SECONDS
    ),
    _histogram("reply_bytes", "Size of replies, results and errors.", _BYTES),
    # ---------------------------------------------------------- pictures
    _counter("images", "Pictures drawn and encoded.", format=tuple(MEDIA_TYPES)),
    _counter("pixels", "Pixels of these pictures."),
    _counter("steps", "Denoising steps done, of pictures that came to nothing as well."),
    _histogram(
        "generation_seconds", "From the start on the GPU to the encoded image.", _SECONDS
    ),
    _histogram("stage_duration_seconds", "Duration of a stage.", _STAGE_SECONDS, stage=STAGES),
    _histogram(
        "step_duration_seconds",
        "One denoising step, as the service hears of it, by the size drawn. The first of a "
        "picture is left out: the prompt is encoded in it.",
        _STEP_SECONDS,
        size=SIZES,
    ),
    # ---------------------------------------------------------- GPU
    _counter("gpu_useful_seconds", "GPU seconds of pictures that were answered."),
    _counter("gpu_wasted_seconds", "GPU seconds that led to no picture.", reason=WASTED_BY),
    _counter(
        "gpu_saved_seconds",
        "GPU seconds that were not spent: on dead work (estimated from the measured time of "
        "the size), or on a picture that was there already.",
        reason=SAVED_BY,
    ),
    _counter("out_of_memory", "Tries for which the GPU had too little memory."),
    _counter(
        "child_restarts",
        "GPU processes replaced.",
        reason=tuple(parting.value for parting in Parting),
    ),
    _gauge("model_loaded", "1 while a GPU process has the model."),
    _gauge("gpu_memory_used_bytes", "Memory in use on the GPU, by whomever; NaN: unread."),
    _gauge("gpu_memory_total_bytes", "Memory of the GPU; NaN: unread."),
    _gauge("gpu_utilization_ratio", "Share of the time in which the GPU worked; NaN: unread."),
    _gauge(
        "gpu_temperature_celsius", "The hottest place of the GPU that it tells; NaN: unread."
    ),
    _gauge("gpu_power_watts", "Power drawn by the GPU; NaN: unread."),
    _gauge("torch_allocated_bytes", "GPU memory that torch has in use; NaN: unread."),
    _gauge("torch_reserved_bytes", "GPU memory that torch holds; NaN: unread."),
    _gauge("torch_peak_bytes", "The most that torch had in use since its start; NaN: unread."),
    _info("gpu", "The GPU in use.", "name", "device", "backend"),
    _info("model", "The model that is loaded.", "model", "revision", "pipeline", "dtype"),
    # ---------------------------------------------------------- broker
    _counter("reconnects", "Broker sessions lost.", reason=LOST_BY),
    _counter("server_cancels", "Consumers of ours that the broker cancelled."),
    _gauge("broker_connected", "1 while both connections stand."),
    _gauge("consuming", "1 while the broker hands out requests."),
    _gauge(
        "queue_waiting",
        "Requests that wait in the queue; NaN while the broker cannot be asked.",
    ),
    _gauge("queue_consumers", "Consumers of the queue, on all machines; NaN as above."),
    _gauge(
        "queue_bound", "Requests that may wait, by our setting; beyond it they are refused."
    ),
    _gauge(
        "estimated_wait_seconds",
        "When the turn of a request would come that were sent now; NaN before the first picture, and "
        "while nobody takes requests.",
    ),
    # ---------------------------------------------------------- the service itself
    _gauge("ready", "1 when the service can take work."),
    _gauge("draining", "1 while it finishes its work before it stops."),
    _gauge("store_available", "1 while the store can be written."),
    _gauge("tasks", "Tasks of the service's event loop."),
    _gauge(
        "loop_lag_seconds",
        "How late the event loop was at the most in the last 15 s; while it stands still, for how "
        "long it does.",
    ),
    _counter(
        "http_requests",
        "HTTP requests to the job API, by the path's template and the status.",
        method=OPEN,
        path=OPEN,
        status=OPEN,
    ),
    _gauge("http_waiting", "HTTP callers that wait for a picture or follow a job."),
    _info("build", "Versions.", "version"),
)

READINGS: Mapping[str, str] = {
    "memory_used_bytes": "gpu_memory_used_bytes",
    "memory_total_bytes": "gpu_memory_total_bytes",
    "utilization_ratio": "gpu_utilization_ratio",
    "temperature_celsius": "gpu_temperature_celsius",
    "power_watts": "gpu_power_watts",
    "torch_allocated_bytes": "torch_allocated_bytes",
    "torch_reserved_bytes": "torch_reserved_bytes",
    "torch_peak_bytes": "torch_peak_bytes",
}
"""What a sample of the GPU calls it, and the gauge that shows it."""


class Metrics:
    """Every metric of the table under its name, with every label value initialised to zero."""

    requests: Counter
    errors: Counter
    deliveries: Counter
    settlements: Counter
    replies: Counter
    replays: Counter
    joins: Counter
    abandoned: Counter
    parked: Counter
    in_progress: Gauge
    concurrency_limit: Gauge
    last_success_timestamp_seconds: Gauge
    request_duration_seconds: Histogram
    queue_wait_seconds: Histogram
    ack_age_seconds: Histogram
    reply_bytes: Histogram

    images: Counter
    pixels: Counter
    steps: Counter
    generation_seconds: Histogram
    stage_duration_seconds: Histogram
    step_duration_seconds: Histogram

    gpu_useful_seconds: Counter
    gpu_wasted_seconds: Counter
    gpu_saved_seconds: Counter
    out_of_memory: Counter
    child_restarts: Counter
    model_loaded: Gauge
    gpu_memory_used_bytes: Gauge
    gpu_memory_total_bytes: Gauge
    gpu_utilization_ratio: Gauge
    gpu_temperature_celsius: Gauge
    gpu_power_watts: Gauge
    torch_allocated_bytes: Gauge
    torch_reserved_bytes: Gauge
    torch_peak_bytes: Gauge
    gpu: Info
    model: Info

    reconnects: Counter
    server_cancels: Counter
    broker_connected: Gauge
    consuming: Gauge
    queue_waiting: Gauge
    queue_consumers: Gauge
    queue_bound: Gauge
    estimated_wait_seconds: Gauge

    ready: Gauge
    draining: Gauge
    store_available: Gauge
    tasks: Gauge
    loop_lag_seconds: Gauge
    http_requests: Counter
    http_waiting: Gauge
    build: Info

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for row in TABLE:
            setattr(self, row.name, _made(row, self.registry))
        ProcessCollector(registry=self.registry)
        self.last_success_timestamp_seconds.set(math.nan)
        self.show_gpu({})

    def waste(self, reason: str, seconds: float) -> None:
        """Count GPU seconds that led to no picture."""
        self.gpu_wasted_seconds.labels(reason).inc(seconds)

    def save(self, reason: str, seconds: float) -> None:
        """Count GPU seconds that were not spent."""
        self.gpu_saved_seconds.labels(reason).inc(seconds)

    def stage(self, stage: str) -> Any:
        """Return a context manager that takes down how long a stage of ours took."""
        return self.stage_duration_seconds.labels(stage).time()

    def step(self, step: int, size: tuple[int, int], seconds: float) -> None:
        """Count a denoising step, and take down how long it took; `step` counts from 1."""
        self.steps.inc()
        if step > 1:
            width, height = size
            name = f"{width}x{height}" if size in LISTED_SIZES else "other"
            self.step_duration_seconds.labels(name).observe(seconds)

    def observe(self, facts: ResultFacts) -> None:
        """Take down a picture, and how long it took, stage by stage."""
        self.images.labels(facts.format).inc()
        self.pixels.inc(facts.width * facts.height)
        self.last_success_timestamp_seconds.set_to_current_time()
        self.generation_seconds.observe(facts.generation_time)
        for stage, seconds in facts.timings.model_dump(exclude={"queued"}).items():
            self.stage_duration_seconds.labels(stage).observe(seconds)

    def show_model(self, ready: Ready) -> None:
        """Show what was loaded, and on what."""
        self.model.info(
            {
                "model": ready.model,
                "revision": ready.revision,
                "pipeline": ready.pipeline,
                "dtype": ready.dtype,
            }
        )
        self.gpu.info(
            {"name": ready.device_name, "device": ready.device, "backend": ready.backend}
        )

    def show_gpu(self, sample: Mapping[str, Any]) -> None:
        """Show a sample of the GPU, by the names in READINGS; NaN where there is no number."""
        for reading, gauge in READINGS.items():
            value = sample.get(reading)
            getattr(self, gauge).set(math.nan if value is None else value)

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)


def _made(row: Row, registry: CollectorRegistry) -> Counter | Gauge | Histogram | Info:
    """Make the metric of a row, each of its label values at zero."""
    name = f"{PREFIX}{row.name}"
    match row.kind:
        case Kind.COUNTER:
            return _at_zero(row, Counter(name, row.help, row.labels, registry=registry))
        case Kind.GAUGE:
            return Gauge(name, row.help, registry=registry)
        case Kind.HISTOGRAM:
            buckets = row.buckets
            histogram = Histogram(
                name, row.help, row.labels, buckets=buckets, registry=registry
            )
            return _at_zero(row, histogram)
        case Kind.INFO:
            return Info(name, row.help, registry=registry)


def _at_zero(row: Row, metric: M) -> M:
    if row.labels:
        for values in itertools.product(*row.labels.values()):
            metric.labels(*values)
    return metric
