"""The HTTP bodies that exist beside the messages: the acceptance of a job, and the problem."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Contract, JobId
from schemas.errors import ErrorCode, Problem
from schemas.status import Path

IDEMPOTENCY_HEADER = "Idempotency-Key"
DEADLINE_HEADER = "X-Deadline-Seconds"
MAX_DEADLINE_S = 86_400
"""The most patience that a request may have, in seconds."""


class Accepted(Contract):
    """The answer to `POST /generate/async`: the job is in the queue, and this is where to ask."""

    job_id: JobId
    status: Literal["queued", "running", "succeeded"]
    """`running` or `succeeded` where the same `Idempotency-Key` came before."""
    status_url: Path
    events_url: Path
    result_url: Path
    image_url: Path


class ProblemDetails(Contract):
    """A typed error as `application/problem+json` (RFC 9457)."""

    type: Path
    """Where the documentation tells more of this code."""
    title: str
    """What the code means, in general."""
    status: Annotated[int, Field(ge=400, le=599)]
    """The HTTP status."""
    detail: str
    """What happened this time, with the remedy."""
    code: ErrorCode
    retryable: bool
    """The same request may be sent again, unchanged."""
    details: tuple[Problem, ...] = ()
    """What is wrong with which field."""
    job_id: JobId | None = None
    """The job that is meant, where there is one."""
