"""HTTP under a crowd: 200 blocking callers on a queue of 20, and what the probes notice of it.

Each caller asks for one picture after another, for a while. A pipeline that takes 50 ms draws what
the queue takes; the rest is refused as `busy`. Every request has to end as one or the other, and
each is asked for again by its id. Meanwhile another process looks at /livez and /metrics, 20 times
a second on a schedule of its own, so that a slow answer does not hold up the next look.
"""

import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bench.report import print_table, surroundings, write
from bench.rig import rig

CALLERS = 200
LOAD_S = 20.0
PATIENCE_S = 60.0
"""Longer than any answer may take: beyond it a caller hangs."""
BODY = json.dumps({"prompt": "draw=0.05", "width": 256, "height": 256}).encode()
PROBES = ("/livez", "/metrics")
LOOK_EVERY_S = 1 / 20
MEDIAN_BELOW_MS = 100.0
"""Of each probe, under load; at it the bench fails."""
PNG = b"\x89PNG\r\n\x1a\n"


# ---------------------------------------------------------------- HTTP, as little as it takes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    head: str
    body: bytes


async def ask(port: int, head: str, body: bytes = b"") -> Answer:
    """Send a request on a connection of its own; return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = f"{head}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        writer.write(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        told, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    text = told.decode("latin-1")
    return Answer(int(text.split(" ", 2)[1]), text, content)


# ---------------------------------------------------------------- callers


async def _call(port: int, job_id: str) -> str:
    """Ask for a picture; return how it ended: `image`, `busy`, `hung`, or what it should not."""
    head = (
        f"POST /generate HTTP/1.1\r\nContent-Type: application/json\r\nAccept: image/png\r\n"
        f"Idempotency-Key: {job_id}"
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await ask(port, head, BODY)
    except TimeoutError:
        return "hung"
    except (OSError, IndexError, ValueError) as error:
        return f"broken off: {type(error).__name__}"
    if answer.status == 200 and answer.body.startswith(PNG):
        return "image"
    if answer.status == 503 and json.loads(answer.body)["code"] == "busy":
        return "busy" if "retry-after:" in answer.head.lower() else "busy without Retry-After"
    return f"{answer.status}: {answer.body[:200]!r}"


async def _look_up(port: int, job_id: str, ended: str) -> bool:
    """Return whether the service remembers the end that the caller saw."""
    answer = await ask(port, f"GET /job/{job_id} HTTP/1.1")
    if ended == "busy":
        return answer.status == 404
    return answer.status == 200 and json.loads(answer.body)["status"] == "succeeded"


async def _caller(port: int, until: float) -> dict[str, str]:
    ends = {}
    while time.monotonic() < until:
        job_id = str(uuid4())
        ends[job_id] = await _call(port, job_id)
    return ends


async def _crowd(port: int) -> dict[str, Any]:
    until = time.monotonic() + LOAD_S
    callers = await asyncio.gather(*(_caller(port, until) for _ in range(CALLERS)))
    ends = {job_id: end for one in callers for job_id, end in one.items()}
    lost = [
        job_id
        for job_id, end in ends.items()
        if end in {"image", "busy"} and not await _look_up(port, job_id, end)
    ]
    return {"ends": dict(Counter(ends.values())), "lost": len(lost)}


def crowd(port: int) -> dict[str, Any]:
    """Be all the callers, in a process of their own; return how their requests ended."""
    return asyncio.run(_crowd(port))


# ---------------------------------------------------------------- probes


async def _probe(port: int, path: str) -> float:
    """Return the milliseconds of one look."""
    started = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        answer = await ask(port, f"GET {path} HTTP/1.1")
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return 1e3 * (time.monotonic() - started)


async def _probing(port: int, seconds: float) -> dict[str, list[float]]:
    looks: dict[str, list[asyncio.Task[float]]] = {path: [] for path in PROBES}
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds / LOOK_EVERY_S)):
            await asyncio.sleep(max(0.0, began + number * LOOK_EVERY_S - time.monotonic()))
            path = PROBES[number % len(PROBES)]
            looks[path].append(group.create_task(_probe(port, path)))
    return {path: [look.result() for look in tasks] for path, tasks in looks.items()}


def probe(port: int, seconds: float) -> dict[str, list[float]]:
    """Look at the probes, in a process of its own; return the milliseconds of each."""
    return asyncio.run(_probing(port, seconds))


def _summary(milliseconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100)
    return {
        "median": round(statistics.median(milliseconds), 2),
        "p99": round(cuts[98], 2),
        "max": round(max(milliseconds), 2),
        "looks": len(milliseconds),
    }


# ---------------------------------------------------------------- the bench


def measure() -> dict[str, Any]:
    """Return the figures of an idle service, then of one under the crowd."""
    spawned = multiprocessing.get_context("spawn")
    with (
        rig(MODEL="scripted", PIPELINE="tests.pipelines:Scripted") as set_up,
        ProcessPoolExecutor(2, mp_context=spawned) as others,
    ):
        port = set_up.served.port
        idle = others.submit(probe, port, LOAD_S).result()
        crowding = others.submit(crowd, port)
        loaded = others.submit(probe, port, LOAD_S).result()
        ends = crowding.result()
    return {
        **ends,
        "probes_ms": {
            path: {"idle": _summary(idle[path]), "loaded": _summary(loaded[path])}
            for path in PROBES
        },
    }


def missed(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each bar that was not reached."""
    for end, count in figures["ends"].items():
        if end not in {"image", "busy"}:
            yield f"{count} requests ended as {end}"
    if not figures["ends"].get("image") or not figures["ends"].get("busy"):
        yield "there were not both images and refusals: the queue was not at its bound"
    if figures["lost"]:
        yield f"{figures['lost']} requests are not remembered as they ended"
    for path, runs in figures["probes_ms"].items():
        if runs["loaded"]["median"] >= MEDIAN_BELOW_MS:
            yield f"{path} took {runs['loaded']['median']} ms in the median"


def main() -> int:
    """Run it, print the tables, write the figures. Returns the exit code."""
    figures = measure()
    print_table(
        f"{CALLERS} blocking callers for {LOAD_S:g} s, 50 ms a picture, a queue of 20",
        ("ended as", "requests"),
        [*figures["ends"].items(), ("lost", figures["lost"])],
    )
    print_table(
        f"Probes, {1 / LOOK_EVERY_S:g} looks a second, ms",
        ("probe", "run", "median", "p99", "max", "looks"),
        [
            [path, run, *summary.values()]
            for path, runs in figures["probes_ms"].items()
            for run, summary in runs.items()
        ],
    )
    write("http", {**surroundings("starlette", "uvicorn"), "callers": CALLERS, **figures})
    failures = list(missed(figures))
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
