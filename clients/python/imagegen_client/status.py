"""The status of a job, as the service tells it, and the list of jobs that several services tell. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
_KNOWN_BETTER = ("queued", "running")
"""What a state tells, growing; any end tells more."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands. What is not known, or does not apply to its state, is None."""

    job_id: str
    status: str
    """`queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`."""
    queued_at: str
    """When it was published; RFC 3339 in UTC, as the other moments."""
    started_at: str | None = None
    """When a worker took it, the last time."""
    ended_at: str | None = None
    deadline_at: str | None = None
    """When nobody wants it any more."""
    prompt: str | None = None
    width: int | None = None
    """Pixels, as drawn."""
    height: int | None = None
    """Pixels, as drawn."""
    seed: int | None = None
    format: str | None = None
    position: int | None = None
    """Of a queued job: its place in the queue, 1 being the next; an estimate."""
    estimated_wait: float | None = None
    """Of a queued job: seconds until its start."""
    step: int | None = None
    """Of a running job: denoising steps done."""
    steps: int | None = None
    """Denoising steps in all."""
    attempt: int = 0
    """How often it was started."""
    worker: str | None = None
    generation_time: float | None = None
    """Seconds from the start of its turn on the GPU to the encoded image."""
    error: Mapping[str, Any] | None = None
    """Of a job that failed, was cancelled or expired: `code`, `message`, `retryable`, `details`."""
    result_pruned: bool = False
    """It ended so long ago, or so many after it, that its result was removed."""
    result_url: str | None = None
    """Of a job that succeeded, while its result is kept: a path at the service's HTTP face."""
    image_url: str | None = None
    """As `result_url`."""

    @property
    def ended(self) -> bool:
        """Whether it changes no more."""
        return self.status in ENDED


_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("width", "height", "seed", "position", "step", "steps", "attempt"), int),
    **dict.fromkeys(("estimated_wait", "generation_time"), float),
    "result_pruned": bool,
    "error": dict,
}
"""What makes a value of a field; text by default."""


def status_from(told: Mapping[str, Any]) -> JobStatus:
    """Return the status that the service told; fields of newer services are passed over.

    Raises:
        ValueError, TypeError, AttributeError: it is none.
    """
    known = {field.name for field in fields(JobStatus)}
    given = {
        name: _READ.get(name, str)(value)
        for name, value in told.items()
        if name in known and value is not None
    }
    return JobStatus(**given)


def merged(lists: Iterable[Iterable[JobStatus]], limit: int) -> list[JobStatus]:
    """Return the newest jobs of all lists, each once, as it is known best; newest first."""
    best: dict[str, JobStatus] = {}
    for status in (status for one in lists for status in one):
        other = best.get(status.job_id)
        if other is None or _known(status) > _known(other):
            best[status.job_id] = status
    newest_first = sorted(best.values(), key=lambda status: status.queued_at, reverse=True)
    return newest_first[:limit]


def _known(status: JobStatus) -> tuple[int, str, int, int]:
    """Return what grows in the life of a job: of two tellings the greater is the later."""
    state = (
        _KNOWN_BETTER.index(status.status)
        if status.status in _KNOWN_BETTER
        else len(_KNOWN_BETTER)
    )
    moment = status.ended_at or status.started_at or ""
    return state, moment, status.attempt, status.step or 0
