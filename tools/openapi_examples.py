"""The examples of the OpenAPI document: one job, from the request to its picture."""

from typing import Any

from schemas.errors import ERRORS, ErrorCode
from schemas.openai import type_of

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

IMAGES_REQUEST: dict[str, Any] = {"prompt": PROMPT, "n": 2, "size": "768x1024", "seed": 42}
_PICTURE: dict[str, Any] = {"b64_json": "iVBORw0KGgoAAAANSUhEUg", "seed": 42, "job_id": JOB_ID}
IMAGES: dict[str, Any] = {
    "created": 1795342534,
    "background": "opaque",
    "output_format": "png",
    "size": "768x1024",
    "data": [
        _PICTURE,
        {**_PICTURE, "seed": 43, "job_id": "7d1f5c1e-41c3-5b37-8e6e-3a0d6f0e9d11"},
    ],
}
MODEL: dict[str, Any] = {
    "id": FACTS["model"],
    "object": "model",
    "created": 1795342000,
    "owned_by": "imagegen",
}
MODELS: dict[str, Any] = {"object": "list", "data": [MODEL]}

INDEX: dict[str, Any] = {"service": "imagegen", "pages": {"/": "this index"}}
PASS: dict[str, Any] = {"status": "pass"}
FAIL: dict[str, Any] = {"status": "fail", "note": "The event loop stands still."}
HEALTH: dict[str, Any] = {"status": "pass", "state": "ready", "note": ""}
METRICS = "imagegen_ready 1.0\n"


def openai_error(code: ErrorCode) -> dict[str, Any]:
    """Return an error with this code in OpenAI's shape."""
    invalid = code is ErrorCode.INVALID_REQUEST
    message = "n: This is above 10, the largest value." if invalid else ERRORS[code].meaning
    told = {"message": message, "type": type_of(code), "param": "n" if invalid else None}
    return {"error": {**told, "code": code.value}}


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
