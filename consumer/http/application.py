"""The application: probes, job API and documents behind the safety, as one ASGI application."""

import contextlib
import json
from collections.abc import AsyncIterator
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from consumer.errors import Fault
from consumer.http import docs_page, openai_errors, probes, problems
from consumer.http.face import Face
from consumer.http.jobs import Jobs
from consumer.http.openai import OpenAI
from consumer.http.problems import ProblemError
from consumer.http.safety import Rules, Safety
from consumer.logs import logger
from schemas.errors import ErrorCode

log = logger(__name__)

OPEN_PATHS = frozenset(probes.PAGES)
DOCUMENTS = frozenset({"/openapi.json", "/docs"})

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FAULTS = {
    404: Fault(ErrorCode.NOT_FOUND, "There is no such page. GET / lists what there is."),
    405: Fault(ErrorCode.METHOD_NOT_ALLOWED, "This page is not spoken to like that."),
}


def application(face: Face, rules: Rules) -> Starlette:
    """Return the application; with it, the face lives."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            async with face.open():
                yield
        except Exception:
            log.exception("http_face_broke")
            raise

    app = Starlette(
        routes=[
            *probes.routes(face.service.snapshot, face.service.metrics),
            *Jobs(face).routes(),
            *OpenAI(face).routes(),
            *_documents(with_token=rules.token is not None),
        ],
        middleware=[Middleware(Safety, rules=rules)],
        exception_handlers={HTTPException: _unrouted, Exception: _broken},
        lifespan=lifespan,
    )
    # A path with a slash too many is another one, and is told so as every other error is.
    app.router.redirect_slashes = False
    return app


def _documents(*, with_token: bool) -> list[Route]:
    document = json.loads(files("schemas").joinpath("openapi.json").read_bytes())
    if with_token:
        document["security"] = [{"bearer": []}]
    text, page = json.dumps(document, indent=2), docs_page.page(document)

    async def openapi(_: Request) -> Response:
        return Response(text, media_type="application/json")

    async def docs(_: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route took."""
    if not isinstance(error, HTTPException):
        raise error
    fault = _FAULTS.get(error.status_code, problems.DEFECT)
    return openai_errors.told(request.url.path, ProblemError(fault, headers=error.headers))


async def _broken(request: Request, error: Exception) -> Response:
    """Answer where we broke, and log how."""
    log.error("http_broke", method=request.method, path=request.url.path, exc_info=error)
    return openai_errors.told(request.url.path, ProblemError(problems.DEFECT))
