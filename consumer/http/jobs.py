"""The job API: its pages, each a few lines over the face."""

import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from consumer.http import problems
from consumer.http.asked import asked, check_takes, job_id_of, page_of
from consumer.http.face import Face
from consumer.http.follow import follow
from consumer.http.pages import Page, leaving, routes_of
from consumer.job import State
from consumer.queries import next_of
from consumer.replies import render_result, result_headers
from schemas.base import Contract
from schemas.http import Accepted
from schemas.reply import ResultFacts
from schemas.request import MEDIA_TYPES
from schemas.status import JobList

_STREAM_TYPE = "text/event-stream"
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Jobs:
    """The pages under `/generate` and `/job`."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def routes(self) -> list[Route]:
        """Return the routes."""
        table: list[tuple[str, str, Page]] = [
            ("POST", "/generate", self.generate),
            ("POST", "/generate/async", self.generate_async),
            ("GET", "/jobs", self.recent),
            ("GET", "/job/{job_id}", self.status),
            ("DELETE", "/job/{job_id}", self.cancel),
            ("GET", "/job/{job_id}/result", self.result),
            ("GET", "/job/{job_id}/image", self.image),
            ("GET", "/job/{job_id}/events", self.events),
        ]
        return routes_of(table, self._face.service.metrics, problems.response)

    # ------------------------------------------------------------ ask

    async def generate(self, request: Request) -> Response:
        """Have a picture drawn and wait for it."""
        wanted = await asked(request, self._face.service.limits(), blocking=True)
        with leaving(request) as gone:
            facts, image = await self._face.draw(wanted, gone)
        return _raw(facts, image) if wanted.raw else _result(facts, image)

    async def generate_async(self, request: Request) -> Response:
        """Have a picture drawn and return where to ask for it."""
        check_takes(request)
        wanted = await asked(request, self._face.service.limits(), blocking=False)
        state = await self._face.send(wanted)
        here = f"/job/{wanted.job_id}"
        accepted = Accepted(
            job_id=wanted.job_id,
            status=_ACCEPTED[state],
            status_url=here,
            events_url=f"{here}/events",
            result_url=f"{here}/result",
            image_url=f"{here}/image",
        )
        return _json(accepted, 202, {"Location": here})

    # ------------------------------------------------------------ look

    async def recent(self, request: Request) -> Response:
        """Return some jobs, the newest first."""
        wanted = page_of(request)
        records = await self._face.recent(wanted)
        jobs = await self._face.statuses(records)
        return _json(JobList(jobs=jobs, next=next_of(records, wanted.limit)))

    async def status(self, request: Request) -> Response:
        """Return where a job stands."""
        return _json(await self._face.status(job_id_of(request)))

    async def result(self, request: Request) -> Response:
        """Return the reply of a job that has ended."""
        check_takes(request)
        record, image = await self._face.picture(job_id_of(request))
        assert record.facts is not None  # noqa: S101 - a picture has facts
        return _result(record.facts, image)

    async def image(self, request: Request) -> Response:
        """Return the picture of a job."""
        record, image = await self._face.picture(job_id_of(request))
        assert record.facts is not None  # noqa: S101 - as above
        check_takes(request, MEDIA_TYPES[record.facts.format])
        tag = f'"{record.facts.sha256}"'
        kept = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
        if _has(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=kept)
        return _raw(record.facts, image, kept)

    async def events(self, request: Request) -> Response:
        """Return the life of a job as server-sent events."""
        job_id = job_id_of(request)
        first = await self._face.status(job_id)
        if request.method == "HEAD":
            # Nobody reads what would come: it would hold a place and the connection until the end.
            return StreamingResponse((), media_type=_STREAM_TYPE, headers=_STREAM_HEADERS)
        places = contextlib.ExitStack()
        places.enter_context(self._face.place(job_id))
        return _Stream(follow(self._face, first), places)

    # ------------------------------------------------------------ call off

    async def cancel(self, request: Request) -> Response:
        """Call a job off."""
        status = await self._face.cancel(job_id_of(request))
        return _json(status, 202 if status.status in {"queued", "running"} else 200)


class _Stream(StreamingResponse):
    """Server-sent events, which give their place back however they end."""

    def __init__(self, events: AsyncIterator[str], places: contextlib.ExitStack) -> None:
        super().__init__(events, media_type=_STREAM_TYPE, headers=_STREAM_HEADERS)
        self._places = places

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            await super().__call__(scope, receive, send)


_ACCEPTED: dict[State, Literal["queued", "running", "succeeded"]] = {
    State.NEW: "queued",
    State.RUNNING: "running",
    State.SUCCEEDED: "succeeded",
}


def _json(body: Contract, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        body.model_dump_json(), status, headers=headers, media_type="application/json"
    )


def _result(facts: ResultFacts, image: bytes) -> Response:
    return Response(render_result(facts, image), media_type="application/json")


def _raw(facts: ResultFacts, image: bytes, headers: dict[str, str] | None = None) -> Response:
    told = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in result_headers(facts).items()
        # A header is no place for words: the caller has them, and the picture too.
        if not name.endswith(("-prompt", "-success"))
    }
    return Response(
        image, headers={**told, **(headers or {})}, media_type=MEDIA_TYPES[facts.format]
    )


def _has(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names this version, or any."""
    named = {part.strip().removeprefix("W/") for part in (header or "").split(",")}
    return tag in named or "*" in named
