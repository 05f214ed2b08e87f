"""Three brokers, the leader killed under load, twice: `python -m bench.cluster`. Ends with 1 where a request was lost."""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.chaos.admin import EXPIRED, PARKING, REQUESTS
from bench.chaos.ledger import Verdict
from bench.chaos.work import gather
from bench.cluster.load import Load, loaded
from bench.cluster.queues import measure
from bench.cluster.stage import Stage, opened
from bench.report import print_table, surroundings, write

REQUESTS_LEAST = 200
PATIENCE_S = 120.0
"""Of a caller. A cluster without a majority for a moment is to be waited for."""
SEED = 6
KILLS = 2
EMPTY_S = 20.0


@dataclass(frozen=True, slots=True)
class Kill:
    """What became of one killed leader."""

    node: str
    then: str
    """Who leads the queue after it."""
    connections: int
    """Of services and clients that it took with it."""
    leaderless_s: float
    """From the kill to the next leader, as the management API tells it."""
    silence_s: float
    """The longest time without an answer to anybody, in the ten seconds after."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--requests", type=int, default=400, metavar="N")
    return parser.parse_args()


async def _kill_the_leader(stage: Stage, load: Load) -> Kill:
    """Kill the node that leads the queue, let work go on without it, and bring it back."""
    name = await stage.leader()
    connections = (await stage.connections()).get(name, 0)
    killed = time.monotonic()
    await asyncio.to_thread(stage.nodes[name].kill)
    then = await stage.leader(without=name)
    found = time.monotonic()
    answered = len(load.answered_at)
    await load.answered(answered + load.most // (3 * KILLS))
    await asyncio.sleep(max(0.0, killed + 10 - time.monotonic()))
    silence = load.silence_s(killed, killed + 10)
    await asyncio.to_thread(stage.nodes[name].ensure_running)
    await stage.whole()
    return Kill(name, then, connections, round(found - killed, 2), round(silence, 2))


async def _under_load(stage: Stage, requests: int) -> tuple[list[Kill], Verdict]:
    async with loaded(stage.urls("chat-backend"), requests, PATIENCE_S, SEED) as load:
        kills = []
        for number in range(KILLS):
            await load.answered(20 + number * requests // KILLS)
            kills.append(await _kill_the_leader(stage, load))
            kill = kills[-1]
            print(
                f"{kill.node} killed with {kill.connections} connections; {kill.then} leads after "
                f"{kill.leaderless_s} s; no answer for {kill.silence_s} s; "
                f"{len(load.answered_at)} of {requests} answered",
                flush=True,
            )
    return kills, load.ledger.verdict()


async def _left_over(stage: Stage) -> dict[str, int]:
    """Return what is left in the queues, once that is as it stays."""
    admin = stage.admin()
    counts = await admin.counts()
    end = time.monotonic() + EMPTY_S
    while any(count.ready for count in counts.values()) and time.monotonic() < end:
        await asyncio.sleep(0.2)
        counts = await admin.counts()
    return {name: counts[name].ready for name in (REQUESTS, EXPIRED, PARKING)}


async def run(requests: int) -> dict[str, Any]:
    """Return the figures of the check and of the queues."""
    print("starting three brokers, a database and two consumers", flush=True)
    async with opened() as stage:
        kills, verdict = await _under_load(stage, requests)
        work = gather(stage.records.new())
        figures = {
            "requests": requests,
            "verdict": asdict(verdict),
            "started_again": work.beyond_one,
            "kills": [asdict(kill) for kill in kills],
            "left_over": await _left_over(stage),
        }
        # Idle consumers and nobody who asks: the queues are measured alone.
        print("measuring the queues", flush=True)
        figures["queues"] = [asdict(cost) for cost in await measure(stage)]
        figures["exits"] = await asyncio.to_thread(stage.stop)
    return figures


def missed(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each promise that was not kept."""
    verdict, requests = figures["verdict"], figures["requests"]
    if requests < REQUESTS_LEAST:
        yield f"{requests} requests are no check; it takes {REQUESTS_LEAST}"
    if verdict["lost"]:
        yield f"lost: {', '.join(verdict['lost'])}"
    if verdict["pictures"] != requests or verdict["attempted"] != requests:
        yield (
            f"{verdict['pictures']} pictures for {requests} requests: {verdict['refused']} refused, "
            f"errors {verdict['errors']}"
        )
    if verdict["unexpected"]:
        yield f"unexpected: {'; '.join(verdict['unexpected'][:3])}"
    if verdict["duplicated_library"]:
        yield f"{verdict['duplicated_library']} answered twice"


def _left_behind(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for what was not a check, or not as it was before."""
    if not any(kill["connections"] for kill in figures["kills"]):
        yield "nobody was connected to a node that was killed"
    if any(figures["left_over"].values()):
        yield f"left over: {figures['left_over']}"
    if any(figures["exits"]):
        yield f"the consumers ended with {figures['exits']}"


def main() -> int:
    """Run it, print the tables, write the figures. Returns the exit code."""
    arguments = _arguments()
    for noisy in ("aio_pika", "aiormq"):
        # They tell of every connection that is cut: here that is the purpose.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    figures = asyncio.run(run(arguments.requests))
    verdict = figures["verdict"]
    print_table(
        f"{figures['requests']} requests, {KILLS} leaders of the quorum queue killed",
        ("pictures", "lost", "refused", "answered twice", "replayed", "started again"),
        [
            [
                verdict["pictures"],
                len(verdict["lost"]),
                verdict["refused"],
                verdict["duplicated_library"],
                verdict["replays"],
                figures["started_again"],
            ]
        ],
    )
    print_table(
        "A request of 602 bytes, persistent, in a cluster of three on this machine",
        (
            "queue",
            "publisher at",
            "confirm ms",
            "p95",
            "through ms",
            "confirmed a second, 32 at once",
        ),
        [list(cost.values()) for cost in figures["queues"]],
    )
    write("cluster", {**surroundings("aio-pika"), **figures})
    sentences = [*missed(figures), *_left_behind(figures)]
    for sentence in sentences:
        print(f"missed: {sentence}", file=sys.stderr)
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
