"""The examples of the OpenAPI document: one job, from the request to its picture."""

from typing import Any

from schemas.errors import ERRORS, ErrorCode

JOB_ID = "0b7f3c2e-5a1d-4e86-9c77-1f2d3a4b5c6d"
PROMPT = "A sunset over mountains"
SHA256 = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"

REQUEST: dict[str, Any] = {"prompt": PROMPT}
FULL_REQUEST: dict[str, Any] = {
    "prompt": PROMPT,
    "width": 768,
    "height": 1024,
    "seed": 42,
    "output_format": "webp",
}

PATHS = {
    "status_url": f"/job/{JOB_ID}",
    "events_url": f"/job/{JOB_ID}/events",
    "result_url": f"/job/{JOB_ID}/result",
    "image_url": f"/job/{JOB_ID}/image",
}
ACCEPTED: dict[str, Any] = {"job_id": JOB_ID, "status": "queued", **PATHS}

FACTS: dict[str, Any] = {
    "job_id": JOB_ID,
    "width": 768,
    "height": 1024,
    "seed": 42,
    "prompt": PROMPT,
    "generation_time": 3.45,
    "format": "webp",
    "sha256": SHA256,
    "model": "Tongyi-MAI/Z-Image-Turbo",
    "forwards": 8,
    "attempt": 1,
    "replayed": False,
    "worker": "gpu-1",
    "timings": {
        "queued": 0.8,
        "text_encode": 0.1,
        "denoise": 3.1,
        "vae_decode": 0.2,
        "encode": 0.05,
    },
}
RESULT: dict[str, Any] = {**FACTS, "success": True, "image_base64": "UklGRiQAAABXRUJQVlA4"}

_BEGUN: dict[str, Any] = {
    "job_id": JOB_ID,
    "prompt": PROMPT,
    "width": 768,
    "height": 1024,
    "seed": 42,
    "format": "webp",
    "queued_at": "2026-11-22T10:15:30.123Z",
    "deadline_at": "2026-11-22T10:25:30.123Z",
}
QUEUED: dict[str, Any] = {**_BEGUN, "status": "queued", "position": 3, "estimated_wait": 10.4}
RUNNING: dict[str, Any] = {
    **_BEGUN,
    "status": "running",
    "started_at": "2026-11-22T10:15:30.941Z",
    "step": 5,
    "steps": 8,
    "attempt": 1,
    "worker": "gpu-1",
}
SUCCEEDED: dict[str, Any] = {
    **RUNNING,
    "status": "succeeded",
    "step": 8,
    "ended_at": "2026-11-22T10:15:34.391Z",
    "generation_time": 3.45,
    "result_url": PATHS["result_url"],
    "image_url": PATHS["image_url"],
}
CANCELLED: dict[str, Any] = {
    **_BEGUN,
    "status": "cancelled",
    "ended_at": "2026-11-22T10:15:31.007Z",
    "error": {
        "code": "cancelled",
        "message": "The job was cancelled.",
        "retryable": False,
        "details": [],
    },
}
JOBS: dict[str, Any] = {"jobs": [RUNNING], "next": None}

INDEX: dict[str, Any] = {"service": "imagegen", "pages": {"/": "this index"}}
PASS: dict[str, Any] = {"status": "pass"}
FAIL: dict[str, Any] = {"status": "fail", "note": "The event loop stands still."}
HEALTH: dict[str, Any] = {"status": "pass", "state": "ready", "note": ""}
METRICS = "imagegen_ready 1.0\n"


def problem(code: ErrorCode) -> dict[str, Any]:
    """Return a problem with this code."""
    spec = ERRORS[code]
    told: dict[str, Any] = {
        "type": f"/docs#{code.value}",
        "title": spec.meaning,
        "status": spec.http_status,
        "detail": spec.meaning,
        "code": code.value,
        "retryable": spec.retryable,
    }
    if code is ErrorCode.INVALID_REQUEST:
        told |= {
            "detail": "The request cannot be drawn as it is.",
            "details": [
                {
                    "field": "steps",
                    "problem": "This field is not known.",
                    "suggestion": "use num_inference_steps",
                }
            ],
        }
    return told
