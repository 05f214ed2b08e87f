"""The status: what is told of a job, made of what the store has and what was heard. Pure."""

from datetime import UTC, datetime

from consumer.forecast import Standing
from consumer.store import CANCELLED_FAULT, Record
from schemas.errors import ERRORS, ErrorCode, ErrorInfo
from schemas.status import JobStatus

NOWHERE = Standing()

_EXPIRED = ErrorInfo(
    code=ErrorCode.DEADLINE_EXCEEDED,
    message="The deadline passed before the picture was there. Send it again with more patience.",
    retryable=ERRORS[ErrorCode.DEADLINE_EXCEEDED].retryable,
)
_ABANDONED = ErrorInfo(
    code=ErrorCode.CANCELLED,
    message="Nobody waited for it any more, so it was stopped.",
    retryable=False,
)
_UNKNOWN = ErrorInfo(
    code=ErrorCode.INTERNAL,
    message="It failed; the reason is not kept any more.",
    retryable=False,
)


def job_status(
    record: Record, *, step: int | None = None, standing: Standing = NOWHERE
) -> JobStatus:
    """Return the status of a job; `step` counts for one that runs, `standing` for one that waits."""
    drawing, facts = record.drawing, record.facts
    kept = facts is not None
    return JobStatus(
        job_id=record.id,
        status=record.status,
        prompt=drawing.prompt if drawing else None,
        width=drawing.width if drawing else None,
        height=drawing.height if drawing else None,
        seed=drawing.seed if drawing else None,
        format=drawing.output_format if drawing else None,
        queued_at=moment(record.created),
        started_at=_moment(record.started),
        ended_at=_moment(record.ended),
        deadline_at=_moment(record.deadline),
        position=standing.position if record.status == "queued" else None,
        estimated_wait=standing.wait_s if record.status == "queued" else None,
        step=_step(record, step),
        steps=drawing.forwards if drawing else None,
        attempt=record.attempts,
        worker=record.owner.partition("/")[0] or None,
        generation_time=facts.generation_time if facts else None,
        error=error_of(record),
        result_pruned=record.pruned,
        result_url=f"/job/{record.id}/result" if kept else None,
        image_url=f"/job/{record.id}/image" if kept else None,
    )


def error_of(record: Record) -> ErrorInfo | None:
    """Return why a job has no picture; None if it has one, or has no end yet."""
    match record.status:
        case "queued" | "running" | "succeeded":
            return None
        case "expired":
            return record.error or _EXPIRED
        case "cancelled":
            return _ABANDONED if record.abandoned else record.error or CANCELLED_FAULT.info()
        case "failed":
            return record.error or _UNKNOWN


def moment(milliseconds: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC."""
    at = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else moment(milliseconds)


def _step(record: Record, heard: int | None) -> int | None:
    if record.status == "succeeded" and record.facts is not None:
        return record.facts.forwards
    return heard if record.status == "running" else None
