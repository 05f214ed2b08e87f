"""The control messages: broadcast to every consumer on the exchange `imagegen.control`."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, JobId
from schemas.status import CURSOR_PATTERN, DEFAULT_PAGE, MAX_PAGE

CONTROL_TYPE = "imagegen.control.v1"
STATUS_TYPE = "imagegen.status.v1"
JOBS_TYPE = "imagegen.jobs.v1"
"""Of the answers to the two queries; their bodies are those of the HTTP face."""


class Cancel(Contract):
    """Stop this job, or refuse it when it arrives."""

    op: Literal["cancel"]
    job_id: JobId


class Done(Contract):
    """A job was finished here; whoever else has it may drop it."""

    op: Literal["done"]
    job_id: JobId
    worker: str


class StatusQuery(Contract):
    """Whoever knows this job answers to `reply_to` of the message with a JobStatus."""

    op: Literal["status"]
    job_id: JobId


class JobsQuery(Contract):
    """Every consumer answers to `reply_to` of the message with a JobList of its store."""

    op: Literal["jobs"]
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    before: Annotated[str, Field(pattern=CURSOR_PATTERN)] | None = None
    """`next` of the list that this one continues."""


ControlMessage = Annotated[Cancel | Done | StatusQuery | JobsQuery, Field(discriminator="op")]

CONTROL_ADAPTER: TypeAdapter[Cancel | Done | StatusQuery | JobsQuery] = TypeAdapter(
    ControlMessage
)
