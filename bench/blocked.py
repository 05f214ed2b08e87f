"""Probes with the event loop blocked: milliseconds of /livez and /metrics meanwhile.

The service runs in this process, and its event loop is held up for two seconds again and again:
once by a wait that lets other threads run, once by Python code that does not. Another process looks
at the probes on a schedule of its own; what it began within a block counts. Then the loop is blocked
past the limit, and /livez has to say no.
"""

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench.http import ask
from bench.report import print_table, spread, surroundings, write
from consumer.health import LOOP_STALL_S
from consumer.logs import configure
from consumer.service import Service
from consumer.settings import read_settings
from control.node import Node

BLOCK_S = 2.0
ROUNDS = 5
PROBES = ("/livez", "/metrics")
LOOK_EVERY_S = 1 / 20
LEAD_S = 0.5
"""The looks begin before the block and go on after it, so that all of it is looked at."""
BELOW_MS = 100.0
"""Nineteen looks of twenty: the rest may be what else the machine does. From it on the bench fails."""

Looks = dict[str, list[tuple[float, float]]]
"""By probe: when each look began, by the machine's monotonic clock in seconds, and how many
milliseconds it took."""


# ---------------------------------------------------------------- who looks


async def _look(port: int, path: str) -> tuple[float, float]:
    began = time.monotonic()
    answer = await ask(port, f"GET {path} HTTP/1.1")
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return began, 1e3 * (time.monotonic() - began)


async def _looking(port: int) -> Looks:
    looks: dict[str, list[asyncio.Task[tuple[float, float]]]] = {path: [] for path in PROBES}
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int((LEAD_S + BLOCK_S + LEAD_S) / LOOK_EVERY_S)):
            await asyncio.sleep(max(0.0, began + number * LOOK_EVERY_S - time.monotonic()))
            path = PROBES[number % len(PROBES)]
            looks[path].append(group.create_task(_look(port, path)))
    return {path: [task.result() for task in tasks] for path, tasks in looks.items()}


def look(port: int) -> Looks:
    """Look at the probes for one round, in a process of its own."""
    return asyncio.run(_looking(port))


async def _until_no(port: int) -> tuple[float, str]:
    while True:
        answer = await ask(port, "GET /livez HTTP/1.1")
        if answer.status != 200:
            return time.monotonic(), answer.body.decode()
        await asyncio.sleep(LOOK_EVERY_S)


def until_no(port: int) -> tuple[float, str]:
    """Look at /livez until it says no; return when that was, and what it said."""
    return asyncio.run(_until_no(port))


# ---------------------------------------------------------------- who blocks


def rest(seconds: float) -> None:
    """Block in a system call: other threads run."""
    time.sleep(seconds)


def spin(seconds: float) -> None:
    """Block in Python code: other threads get the interpreter only when it is taken from this one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


BLOCKS: dict[str, Callable[[float], None]] = {"waits": rest, "computes": spin}


async def _round(
    others: ProcessPoolExecutor, port: int, block: Callable[[float], None]
) -> dict[str, list[float]]:
    """Block the loop once while another process looks; return the milliseconds of each look."""
    looking = asyncio.wrap_future(others.submit(look, port))
    await asyncio.sleep(LEAD_S)
    began = time.monotonic()
    block(BLOCK_S)
    ended = time.monotonic()
    looks = await looking
    return {
        path: [took for start, took in looks[path] if began <= start < ended] for path in PROBES
    }


async def _rounds(
    others: ProcessPoolExecutor, port: int, block: Callable[[float], None]
) -> dict[str, list[float]]:
    rounds = [await _round(others, port, block) for _ in range(ROUNDS)]
    return {path: [took for one in rounds for took in one[path]] for path in PROBES}


def _past_the_limit(others: ProcessPoolExecutor, port: int) -> dict[str, Any]:
    """Block the loop until /livez says no."""
    seeing = others.submit(until_no, port)
    began = time.monotonic()
    while not seeing.done():
        time.sleep(LOOK_EVERY_S)  # the caller is a coroutine: its loop is to stand still
    at, said = seeing.result()
    return {"limit_s": LOOP_STALL_S, "said_no_after_s": round(at - began, 2), "said": said}


# ---------------------------------------------------------------- the bench


async def _measure(others: ProcessPoolExecutor, node: Node, folder: Path) -> dict[str, Any]:
    port = _free_port()
    given = {
        "AMQP_URL": node.amqp_url("imagegen-consumer"),
        "HTTP_AMQP_URL": node.amqp_url("imagegen-http"),
        "PORT": str(port),
        "DATA_DIR": str(folder / "data"),
        "MODEL": "waiting",
        "PIPELINE": "bench.pipelines:Waiting",
    }
    settings = {f"IMAGE_GEN_{name}": value for name, value in given.items()}
    service = Service(read_settings(settings, folder / "no secrets"))
    running = asyncio.create_task(service.run())
    try:
        await _ready(port)
        blocks = {name: await _rounds(others, port, block) for name, block in BLOCKS.items()}
        return {"blocks": blocks, "past_the_limit": _past_the_limit(others, port)}
    finally:
        signal.raise_signal(signal.SIGTERM)
        await running


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _ready(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            if (await ask(port, "GET /readyz HTTP/1.1")).status == 200:
                return
        await asyncio.sleep(LOOK_EVERY_S)


def measure() -> dict[str, Any]:
    """Return the milliseconds of every look by kind of block, and how the limit was told."""
    spawned = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="imagegen-bench-") as name,
        ProcessPoolExecutor(1, mp_context=spawned) as others,
    ):
        node = Node(Path(name) / "rabbitmq")
        node.ensure_running()
        try:
            return asyncio.run(_measure(others, node, Path(name)))
        finally:
            node.kill()


def _p95(looks: list[float]) -> float:
    return round(statistics.quantiles(looks, n=20)[-1], 3)


def missed(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each bar that was not reached."""
    for kind, probes in figures["blocks"].items():
        for path, looks in probes.items():
            if len(looks) < ROUNDS * BLOCK_S / LOOK_EVERY_S / 4:
                yield f"{path} was looked at {len(looks)} times only while the loop {kind}"
            elif _p95(looks) >= BELOW_MS:
                yield f"{path} took {_p95(looks):.0f} ms while the loop {kind}"
    told = figures["past_the_limit"]
    if "stood still" not in told["said"]:
        yield f"/livez said of a loop past its limit: {told['said']}"


def main() -> int:
    """Run it, print the table, write the figures. Returns the exit code."""
    configure("json", "warning", [])
    figures = measure()
    print_table(
        f"Probes of a service whose event loop is blocked for {BLOCK_S:g} s, {ROUNDS} times, ms",
        ("the loop", "probe", "median", "min", "max", "95 %", "looks"),
        [
            [kind, path, *spread(looks).values(), _p95(looks), len(looks)]
            for kind, probes in figures["blocks"].items()
            for path, looks in probes.items()
        ],
    )
    told = figures["past_the_limit"]
    print(f"\nBlocked on, /livez said no after {told['said_no_after_s']} s: {told['said']}")
    write("blocked", {**surroundings("starlette", "uvicorn"), **figures})
    failures = list(missed(figures))
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
