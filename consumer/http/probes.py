"""The probes: liveness, readiness, health and metrics, from a snapshot. They ask nobody anything."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consumer.checks import loop_check
from consumer.health import Snapshot, judged, standstill
from consumer.metrics import Metrics

PAGES = {
    "/": "this index",
    "/health": "status, model, GPU, broker, queue, work in hand",
    "/livez": "200 while the service's event loop runs and its GPU process is watched",
    "/readyz": "200 while it can take requests",
    "/startupz": "200 once a model was loaded and warm",
    "/metrics": "Prometheus metrics",
}


def routes(snapshot: Callable[[], Snapshot], metrics: Metrics) -> list[Route]:
    """Return the routes of the probes."""

    async def index(_: Request) -> Response:
        return JSONResponse({"service": "imagegen", "pages": PAGES})

    async def health(_: Request) -> Response:
        page = health_page(snapshot(), time.monotonic())
        return JSONResponse(
            page,
            status_code=503 if page["status"] == "fail" else 200,
            media_type="application/health+json",
        )

    async def livez(_: Request) -> Response:
        return _verdict(standstill(snapshot(), time.monotonic()))

    async def readyz(_: Request) -> Response:
        verdict = judged(snapshot(), time.monotonic())
        problem = None if verdict.ready else verdict.note
        return _verdict(problem, state=verdict.state, note=verdict.note)

    async def startupz(_: Request) -> Response:
        current = snapshot()
        return _verdict(None if current.started else current.health.note)

    async def exposition(_: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    pages = {
        "/": index,
        "/health": health,
        "/livez": livez,
        "/readyz": readyz,
        "/startupz": startupz,
        "/metrics": exposition,
    }
    return [Route(path, page, methods=["GET"]) for path, page in pages.items()]


def health_page(current: Snapshot, now: float) -> dict[str, Any]:
    """Return the health page; whether the service stands still is seen here, where it is served."""
    verdict = judged(current, now)
    told = {"status": verdict.status, "state": verdict.state, "note": verdict.note}
    checks = {
        **current.page["checks"],
        **loop_check(now - current.beat, standstill(current, now)),
    }
    # The page was made while all moved, and may say that it is ready.
    late = {"ready": verdict.ready, "checks": checks}
    return {**told, "notes": [verdict.note], **current.page, **late}


def _verdict(problem: str | None, **more: str) -> Response:
    """Answer 200, or 503 with why not."""
    if problem is None:
        return JSONResponse({"status": "pass", **more})
    return JSONResponse({"status": "fail", **more, "note": problem}, status_code=503)
