"""The status: what is told of a job in each of its states."""

import pytest

from consumer.forecast import Standing
from consumer.job import Drawing
from consumer.status import error_of, job_status, moment
from consumer.store import Record
from schemas.errors import ErrorCode, ErrorInfo
from tests.storing import picture

DRAWING = Drawing("x", 256, 512, 1, 8, 9, 0.0, "webp")
OOM = ErrorInfo(code=ErrorCode.OUT_OF_MEMORY, message="Too little.", retryable=True)


def record(status, **changes):
    fields = {
        "id": "job-1",
        "status": status,
        "user_id": None,
        "created": 1_000,
        "started": 2_000,
        "ended": 3_000,
        "deadline": 9_000,
        "attempts": 1,
        "owner": "tester/boot",
        "drawing": DRAWING,
        "error": None,
        "facts": None,
        "pruned": False,
        "abandoned": False,
    }
    return Record(**{**fields, **changes})


def test_a_job_that_waits_has_a_place():
    """Place and wait are told of a queued job only; it has no step."""
    here = Standing(3, 4.5)
    queued = job_status(record("queued"), step=5, standing=here)
    running = job_status(record("running"), step=5, standing=here)
    assert (queued.position, queued.estimated_wait, queued.step) == (3, 4.5, None)
    assert (running.position, running.estimated_wait, running.step) == (None, None, 5)
    assert (running.steps, running.width, running.height, running.format) == (
        8,
        256,
        512,
        "webp",
    )


def test_a_picture_that_is_kept_has_its_pages():
    """A job that succeeded has all its steps, its time and its addresses."""
    told = job_status(record("succeeded", facts=picture().facts))
    assert (told.step, told.generation_time, told.worker) == (8, 3.45, "tester")
    assert (told.result_url, told.image_url) == ("/job/job-1/result", "/job/job-1/image")


def test_a_picture_that_was_removed_has_none():
    """Without its facts there is nothing to fetch."""
    told = job_status(record("succeeded", pruned=True, drawing=None, owner="", attempts=0))
    assert (told.result_pruned, told.result_url, told.image_url) == (True, None, None)
    assert (told.prompt, told.worker, told.steps) == (None, None, None)


ERRORS = {
    "queued": (record("queued", error=OOM), None),
    "running": (record("running", error=OOM), None),
    "succeeded": (record("succeeded"), None),
    "failed": (record("failed", error=OOM), ErrorCode.OUT_OF_MEMORY),
    "failed, forgotten why": (record("failed"), ErrorCode.INTERNAL),
    "expired": (record("expired"), ErrorCode.DEADLINE_EXCEEDED),
    "expired, said so": (record("expired", error=OOM), ErrorCode.OUT_OF_MEMORY),
    "cancelled": (record("cancelled"), ErrorCode.CANCELLED),
    "abandoned": (record("cancelled", abandoned=True, error=OOM), ErrorCode.CANCELLED),
}


@pytest.mark.parametrize("case", ERRORS)
def test_every_end_without_a_picture_has_an_error(case):
    """A job that failed, expired or was cancelled says why; another has no error."""
    one, code = ERRORS[case]
    error = error_of(one)
    assert (error and error.code) == code


def test_moments_are_utc_with_milliseconds():
    """Times are RFC 3339, and a moment that is not there is null."""
    assert moment(1_763_806_530_007) == "2025-11-22T10:15:30.007Z"
    told = job_status(record("queued", started=None, ended=None, deadline=None))
    assert (told.started_at, told.ended_at, told.deadline_at) == (None, None, None)
