"""The run: one fleet idle, then under callers who never let it rest, then under requests by chance."""

import asyncio
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import aio_pika

from bench.scaling.fleet import Fleet, imports_torch
from bench.scaling.meter import Reading
from schemas.control import CONTROL_TYPE

CALLERS_EACH = 3
"""For one consumer: one picture on the GPU, one in hand or encoded, one that waits."""
UTILISATION = 0.8
"""Of the GPUs, by requests that come by chance."""
STATISTICS_S = 6.0
"""After which the broker's counters are up to date: it collects them every 5 s."""
WARM_S = 60.0
WORDS = 3000
LAST_WORD = "last-word"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Spans:
    """How long what is measured lasts, in seconds."""

    idle: float = 15.0
    busy: float = 60.0
    by_chance: float = 100.0


class Asking:
    """The callers' process, and what it told so far."""

    def __init__(self, url: str, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.scaling.callers", url, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answers: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self.process.stdout:
            self._news.put(json.loads(line))

    def listen(self, seconds: float, tell: Tell, enough: Callable[[], bool]) -> bool:
        """Collect answers until it is enough, which is what is returned, or the time is over."""
        end = time.monotonic() + seconds
        while not enough() and (left := end - time.monotonic()) > 0:
            try:
                self.answers.append(self._news.get(timeout=min(left, 1.0)))
            except queue.Empty:
                continue
            tell(f"{len(self.answers)} pictures, {max(0.0, left):.0f} s left")
        return enough()

    def finish(self, tell: Tell) -> None:
        """Have nothing more asked, and collect what is under way."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        self.process.stdin.close()
        ended = self.listen(WARM_S, tell, lambda: self.process.poll() is not None)
        if not ended or self.process.returncode:
            raise RuntimeError(f"the callers ended with {self.process.returncode}")
        self._reader.join()
        while not self._news.empty():
            self.answers.append(self._news.get())


def idle(fleet: Fleet, spans: Spans, tell: Tell) -> dict[str, Any]:
    """Return what the fleet costs while nothing is asked, per consumer and second."""
    tell("idle")
    time.sleep(STATISTICS_S)  # of the start
    before = fleet.meter.read()
    time.sleep(spans.idle)
    after = fleet.meter.read()
    consumer_seconds = len(fleet.consumers) * (after.at - before.at)
    return {
        "cpu_ms": round(1e3 * _used(before, after, "consumers") / consumer_seconds, 2),
        "database_cpu_ms": round(1e3 * _used(before, after, "database") / consumer_seconds, 2),
        "transactions": round((after.transactions - before.transactions) / consumer_seconds, 3),
        "connections": after.connections / len(fleet.consumers),
        "channels": after.channels / len(fleet.consumers),
        "sessions": after.sessions / len(fleet.consumers),
        "broker_mib": round(after.broker_bytes / 2**20, 1),
    }


def words(fleet: Fleet, tell: Tell) -> dict[str, float]:
    """Return what it costs that the end of every job is told to every consumer, per delivery."""
    tell("words to all")
    before = fleet.meter.read()
    asyncio.run(_say(fleet.url))
    for consumer in fleet.consumers:
        consumer.wait("cancel_heard", job_id=LAST_WORD)
    after = fleet.meter.read()
    deliveries = WORDS * len(fleet.consumers)
    return {
        f"{group}_us": round(1e6 * _used(before, after, group) / deliveries)
        for group in ("consumers", "broker")
    }


async def _say(url: str) -> None:
    """Tell all consumers of ends of jobs that none of them has, and a last word that is logged."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        control = await channel.get_exchange("imagegen.control", ensure=False)
        done = [{"op": "done", "job_id": f"n-{n}", "worker": "bench"} for n in range(WORDS)]
        for word in [*done, {"op": "cancel", "job_id": LAST_WORD}]:
            body = json.dumps(word).encode()
            await control.publish(aio_pika.Message(body, type=CONTROL_TYPE), "")


def busy(fleet: Fleet, spans: Spans, tell: Tell) -> dict[str, Any]:
    """Return throughput and costs under callers who ask again as soon as they are answered."""
    count = len(fleet.consumers)
    begun = fleet.meter.read()
    with Asking(fleet.url, f"closed:{CALLERS_EACH * count}") as asking:
        if not asking.listen(WARM_S, tell, lambda: _drawn_by(asking.answers) == count):
            raise RuntimeError("not every consumer drew")
        before, known = fleet.meter.read(), len(asking.answers)
        asking.listen(spans.busy, tell, lambda: False)
        after, until = fleet.meter.read(), len(asking.answers)
        torch, series = imports_torch(fleet.consumers), _series(fleet)
        asking.finish(tell)
    time.sleep(STATISTICS_S)
    ended = fleet.meter.read()
    window = asking.answers[known:until]
    return {
        "torch": torch,
        "series": series,
        "pictures": len(asking.answers),
        "errors": _errors(asking.answers),
        "throughput": round(throughput(window), 4),
        "by_worker": {name: len(times) for name, times in _by_worker(window).items()},
        "wait_s": quantiles(answer["queued_s"] for answer in window if "worker" in answer),
        "answer_s": quantiles(answer["answered"] - answer["asked"] for answer in window),
        "turn_s": quantiles(answer["turn_s"] for answer in window if "worker" in answer),
        "picture_bytes": int(statistics.median(answer["bytes"] for answer in window)),
        "cpu_ms_a_picture": _cpu(before, after, len(window))
        | {"callers": round(1e3 * (window[-1]["cpu_s"] - window[0]["cpu_s"]) / len(window), 1)},
        "messages_a_picture": {
            name: round((ended.messages[name] - begun.messages[name]) / len(asking.answers), 2)
            for name in ended.messages
        },
        "transactions_a_picture": round(
            (after.transactions - before.transactions) / len(window), 2
        ),
        "log_kib_a_picture": round((after.log_bytes - before.log_bytes) / 1024 / len(window)),
        "connections": after.connections,
        "channels": after.channels,
        "sessions": after.sessions,
        "broker_mib": round(after.broker_bytes / 2**20, 1),
    }


def by_chance(fleet: Fleet, spans: Spans, a_gpu: float, tell: Tell) -> dict[str, Any]:
    """Return how long requests wait that come by chance and keep the GPUs busy for a part of the time."""
    a_second = UTILISATION * a_gpu * len(fleet.consumers)
    with Asking(fleet.url, f"open:{a_second:.4f}") as asking:
        asking.listen(spans.by_chance, tell, lambda: False)
        asking.finish(tell)
    answers = asking.answers
    return {
        "requests": len(answers),
        "errors": _errors(answers),
        "asked_a_second": round(a_second, 3),
        "wait_s": quantiles(answer["queued_s"] for answer in answers if "worker" in answer),
    }


def throughput(window: Iterable[dict[str, Any]]) -> float:
    """Return pictures a second: the sum over the consumers of the inverse of their mean interval.

    Answers counted over a time would come out too high or too low by up to one for each consumer.
    """
    return sum(
        (len(times) - 1) / (times[-1] - times[0])
        for times in _by_worker(window).values()
        if len(times) > 1
    )


def _by_worker(answers: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if "worker" in answer:
            times[answer["worker"]].append(answer["answered"])
    return {name: sorted(each) for name, each in sorted(times.items())}


def _drawn_by(answers: list[dict[str, Any]]) -> int:
    return len(_by_worker(answers))


def _series(fleet: Fleet) -> int:
    """Return how many time series a Prometheus would have of one consumer."""
    text = fleet.consumers[0].get("/metrics")[2].decode()
    return sum(bool(line) and not line.startswith("#") for line in text.splitlines())


def _errors(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["error"] for answer in answers if "error" in answer]


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Return mean, median, the 95th percentile and the most, in seconds."""
    ordered = sorted(values)
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    found = {
        "mean": statistics.fmean(ordered),
        "median": cuts[9],
        "p95": cuts[18],
        "max": ordered[-1],
    }
    return {name: round(value, 3) for name, value in found.items()}


def _used(before: Reading, after: Reading, group: str) -> float:
    return after.cpu_s[group] - before.cpu_s[group]


def _cpu(before: Reading, after: Reading, pictures: int) -> dict[str, float]:
    return {
        group: round(1e3 * _used(before, after, group) / pictures, 1) for group in after.cpu_s
    }
