"""The overlap: how busy a stream of requests keeps the GPU while pictures are encoded and sent.

A pipeline that waits 250 ms and returns a photograph-like frame, 40 requests of 1024x1024. Busy =
the sum of its waits over the span from the first start to the last end, measured in the child.
"""

import asyncio
import json
import sys
from itertools import pairwise
from typing import Any

from bench.pipelines import WAITS
from bench.report import print_table, spread, surroundings, write
from bench.rig import rig
from imagegen_client import ImageClient

REQUESTS = 40
AT_ONCE = 10
"""Requests under way: the queue is never empty and never full."""
SIDE = 1024
BUSY_AT_LEAST = 0.97
"""With two jobs in hand; below it the bench fails."""


async def stream(url: str) -> None:
    """Send the requests, a few at once."""
    async with ImageClient(url) as client:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> None:
            async with places:
                await client.generate("a stream", width=SIDE, height=SIDE, seed=seed)

        async with asyncio.TaskGroup() as requests:
            for seed in range(REQUESTS):
                requests.create_task(one(seed))


def busy(waits: list[dict[str, float]]) -> dict[str, Any]:
    """Return how busy the pipeline was and how long it stood between two pictures."""
    span = waits[-1]["ended"] - waits[0]["started"]
    gaps = [1e3 * (after["started"] - before["ended"]) for before, after in pairwise(waits)]
    return {
        "busy": round(sum(wait["waited"] for wait in waits) / span, 4),
        "span_s": round(span, 3),
        "gap_ms": spread(gaps),
    }


def measure(max_concurrent: int) -> dict[str, Any]:
    """Return the figures of a service with this many jobs in hand."""
    with rig(
        MODEL="waiting", PIPELINE="bench.pipelines:Waiting", MAX_CONCURRENT=max_concurrent
    ) as set_up:
        asyncio.run(stream(set_up.url))
        lines = (set_up.data_dir / WAITS).read_text().splitlines()
    if len(lines) != REQUESTS:
        raise RuntimeError(f"{len(lines)} pictures were drawn for {REQUESTS} requests")
    return busy([json.loads(line) for line in lines])


def main() -> int:
    """Run it, print the table, write the figures. Returns the exit code."""
    figures = {str(jobs): measure(jobs) for jobs in (1, 2)}
    print_table(
        f"{REQUESTS} requests on a pipeline that waits 250 ms, {SIDE}x{SIDE} PNG",
        ("MAX_CONCURRENT", "busy", "gap ms (median)", "gap ms (max)"),
        [
            [jobs, f"{each['busy']:.1%}", each["gap_ms"]["median"], each["gap_ms"]["max"]]
            for jobs, each in figures.items()
        ],
    )
    write(
        "overlap",
        {**surroundings("aio-pika", "isal"), "requests": REQUESTS, "max_concurrent": figures},
    )
    reached = figures["2"]["busy"]
    if reached < BUSY_AT_LEAST:
        print(f"below the bar: {reached:.1%} busy, {BUSY_AT_LEAST:.0%} asked", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
