"""The pages: a table of methods and paths becomes routes; the one place where exceptions become answers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from consumer.errors import Fault
from consumer.http import problems
from consumer.http.asked import ClientGoneError
from consumer.http.problems import ProblemError
from consumer.logs import logger
from consumer.metrics import Metrics
from consumer.store import StoreLostError
from schemas.errors import ErrorCode

log = logger(__name__)

Page = Callable[[Request], Awaitable[Response]]
Told = Callable[[ProblemError], Response]
"""How these pages tell an error."""

CLIENT_GONE_STATUS = 499
"""Of an answer that nobody reads, for the metrics: what nginx calls a closed request."""

_STORE_LOST = Fault(
    ErrorCode.UNAVAILABLE, "The store of jobs cannot be reached. Try again in a few seconds."
)


def routes_of(
    table: Iterable[tuple[str, str, Page]], metrics: Metrics, told: Told
) -> list[Route]:
    """Return the routes of a table of (method, path, page)."""
    by_path: dict[str, dict[str, Page]] = {}
    for method, path, page in table:
        by_path.setdefault(path, {})[method] = page
    return [
        Route(path, _answered(path, pages, metrics, told), methods=list(pages))
        for path, pages in by_path.items()
    ]


def _answered(path: str, pages: dict[str, Page], metrics: Metrics, told: Told) -> Page:
    """Return the endpoint of a path."""
    label = path.replace(":path}", "}")

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            response = await pages[method](request)
        except ProblemError as error:
            response = told(error)
        except StoreLostError:
            response = told(ProblemError(_STORE_LOST))
        except ClientGoneError:
            response = Response(status_code=CLIENT_GONE_STATUS)
        except Exception:
            # Here, so that it is counted, and goes out with the guards of every answer.
            log.exception("page_broke", page=path)
            response = told(ProblemError(problems.DEFECT))
        metrics.http_requests.labels(method, label, str(response.status_code)).inc()
        return response

    return endpoint


@contextlib.contextmanager
def leaving(request: Request) -> Iterator["asyncio.Future[None]"]:
    """Give a future that is done when the caller has left."""
    gone = asyncio.get_running_loop().create_task(_gone(request))
    try:
        yield gone
    finally:
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
