"""The probes: liveness, readiness, health and metrics, from a snapshot. They ask nobody anything."""

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consumer.health import Snapshot, alive
from consumer.metrics import Metrics

PAGES = {
    "/": "this index",
    "/health": "status, model, broker, work in hand",
    "/livez": "200 while the service's event loop runs",
    "/readyz": "200 while it can take requests",
    "/metrics": "Prometheus metrics",
}


def routes(snapshot: Callable[[], Snapshot], metrics: Metrics) -> list[Route]:
    """Return the routes of the probes."""

    async def index(_: Request) -> Response:
        return JSONResponse({"service": "imagegen", "pages": PAGES})

    async def health(_: Request) -> Response:
        current = snapshot()
        verdict = current.health
        page = {
            "status": verdict.status,
            "state": verdict.state,
            "note": verdict.note,
            **current.page,
        }
        if not alive(current, time.monotonic()):
            page |= {
                "status": "fail",
                "state": "failed",
                "note": "The event loop stands still.",
            }
        return JSONResponse(
            page,
            status_code=503 if page["status"] == "fail" else 200,
            media_type="application/health+json",
        )

    async def livez(_: Request) -> Response:
        if alive(snapshot(), time.monotonic()):
            return JSONResponse({"status": "pass"})
        return JSONResponse(
            {"status": "fail", "note": "The event loop stands still."}, status_code=503
        )

    async def readyz(_: Request) -> Response:
        current = snapshot()
        ready = current.health.ready and alive(current, time.monotonic())
        return JSONResponse(
            {
                "status": "pass" if ready else "fail",
                "state": current.health.state,
                "note": current.health.note,
            },
            status_code=200 if ready else 503,
        )

    async def exposition(_: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    pages = {
        "/": index,
        "/health": health,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": exposition,
    }
    return [Route(path, page, methods=["GET"]) for path, page in pages.items()]
