"""The events: best-effort news of a job on the exchange `imagegen.events`."""

from typing import Literal

from schemas.base import Contract, JobId

EVENT_TYPE = "imagegen.event.v1"

EventState = Literal["running", "step", "succeeded", "failed", "cancelled", "expired"]


class JobEvent(Contract):
    """One piece of news, routing key `job.<state>.<job id>`. Some may be lost; replies are not."""

    job_id: JobId
    state: EventState
    step: int = 0
    """Denoising steps done, 0 to `steps`."""
    steps: int = 0
    """Denoising steps in all; 0 where not known yet."""
    worker: str


def routing_key(event: JobEvent) -> str:
    """Return the topic an event is published under."""
    return f"job.{event.state}.{event.job_id}"
