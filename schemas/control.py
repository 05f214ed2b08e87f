"""The control messages: broadcast to every consumer on the exchange `imagegen.control`."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, JobId

CONTROL_TYPE = "imagegen.control.v1"


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
    """Whoever knows this job answers to `reply_to` of the message."""

    op: Literal["status"]
    job_id: JobId


ControlMessage = Annotated[Cancel | Done | StatusQuery, Field(discriminator="op")]

CONTROL_ADAPTER: TypeAdapter[Cancel | Done | StatusQuery] = TypeAdapter(ControlMessage)
