"""A face that follows a script: HTTP answers for whoever asks, with the trouble that a test is about."""

import asyncio
import json
from dataclasses import dataclass

CUT = b""
"""In the place of an answer: the connection is dropped."""


@dataclass(frozen=True)
class Heard:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def answer(status, body=b"", content_type="application/json", **headers):
    """An answer with a length, as bytes."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": content_type, "Content-Length": len(body), "Connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(status, code, *, retryable=False, **headers):
    """A typed error."""
    body = {"code": code, "detail": f"This is {code}.", "retryable": retryable, "details": []}
    return answer(status, body, "application/problem+json", **headers)


def stream(*states, cut=False):
    """Events of a job: (state, step) of each; `cut` leaves the last one without its end."""
    head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    told = [
        f"event: {state}\ndata: {json.dumps(status(state, step))}\n\n" for state, step in states
    ]
    text = head + ": still here\n\n" + "".join(told)
    return (text[:-1] if cut else text).encode()


def status(state, step=None, job_id="x"):
    """A status as the service tells it."""
    moment = "2026-11-22T10:00:00.000Z"
    return {"job_id": job_id, "status": state, "queued_at": moment, "step": step, "steps": 8}


class ScriptedFace:
    """Gives each request the next answer of the script of its method and page; the last for ever.

    A page is the last part of a path: `async`, `events`, `image`, `jobs`, or `id` for a job.
    """

    def __init__(self, **script):
        self._script = {page: list(answers) for page, answers in script.items()}
        self.heard = []
        self._news = asyncio.Condition()
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def of(self, page):
        """The requests for a page."""
        return [heard for heard in self.heard if _page(heard) == page]

    async def wait(self, page, count=1):
        """Wait until a page was asked for so many times."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.of(page)) >= count)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            heard = await _read(reader)
            async with self._news:
                self.heard.append(heard)
                self._news.notify_all()
            answers = self._script[_page(heard)]
            told = answers[0] if len(answers) == 1 else answers.pop(0)
            if isinstance(told, asyncio.Event):
                await told.wait()
            else:
                writer.write(told)
                await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)


def _page(heard):
    last = heard.path.partition("?")[0].rpartition("/")[2]
    if heard.method == "DELETE":
        return "cancel"
    return last if last in {"async", "events", "image", "jobs"} else "id"


async def _read(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split()
    headers = {
        name.lower(): value
        for name, value in (line.split(": ", 1) for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Heard(method, path, headers, body)
