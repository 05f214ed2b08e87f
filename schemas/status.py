"""The status: the life of a job as its caller follows it, from queued to its end."""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from schemas.base import Contract, JobId
from schemas.errors import ErrorInfo
from schemas.reply import Seconds
from schemas.request import OutputFormat

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
MAX_PAGE = 200
"""The most jobs of one list."""
DEFAULT_PAGE = 50
CURSOR_PATTERN = r"^[0-9]{1,15}\.[A-Za-z0-9_-]{1,128}$"
"""What continues a list: when its last job was published, in ms since 1970, and the job's id."""

ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled", "expired"})

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 in UTC with milliseconds: 2026-11-22T10:15:30.123Z."""

Path = Annotated[str, WithJsonSchema({"type": "string", "format": "uri-reference"})]
"""A path on this server."""


class JobStatus(Contract):
    """Where a job stands. What is not known, or does not apply to its state, is null."""

    job_id: JobId
    status: JobState
    prompt: str | None = None
    width: int | None = None
    """Pixels, as drawn."""
    height: int | None = None
    """Pixels, as drawn."""
    seed: int | None = None
    format: OutputFormat | None = None
    queued_at: Moment
    """When it was published."""
    started_at: Moment | None = None
    """When a worker took it, the last time."""
    ended_at: Moment | None = None
    deadline_at: Moment | None = None
    """When nobody wants it any more."""
    position: Annotated[int, Field(ge=1)] | None = None
    """Of a queued job: its place in the queue, 1 being the next; an estimate, never too low."""
    estimated_wait: Seconds | None = None
    """Of a queued job: seconds until its start, by what pictures of such sizes took here."""
    step: Annotated[int, Field(ge=0)] | None = None
    """Of a running job: denoising steps done; null until the first was heard of."""
    steps: Annotated[int, Field(ge=0)] | None = None
    """Denoising steps in all."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """How often it was started."""
    worker: str | None = None
    """Who draws it or drew it."""
    generation_time: Seconds | None = None
    """Seconds from the start of the job's turn on the GPU to the encoded image."""
    error: ErrorInfo | None = None
    """Of a job that failed, was cancelled or expired."""
    result_pruned: bool = False
    """It ended so long ago, or so many after it, that its result was removed."""
    result_url: Path | None = None
    """Of a job that succeeded, while its result is kept."""
    image_url: Path | None = None
    """As `result_url`."""


class JobList(Contract):
    """Some jobs, the newest first."""

    jobs: tuple[JobStatus, ...]
    next: Annotated[str, Field(pattern=CURSOR_PATTERN)] | None = None
    """What to give as `before` for the jobs before these; null where there are none."""
