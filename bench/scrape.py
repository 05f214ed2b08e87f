"""The scrape: milliseconds of `GET /metrics`, of an idle service and while four jobs run.

As Prometheus does it: over one connection that is kept, from the request to the last byte. The
pipeline waits 250 ms a picture and returns a photograph-like frame, so that while four jobs are
in hand the service encodes, stores and publishes 1024x1024 pictures without a pause.
"""

import http.client
import sys
import time
from typing import Any

from bench.load import load
from bench.report import print_table, spread, surroundings, write
from bench.rig import rig
from tests.serving import Served

SCRAPES = 300
WARM_UP = 10
EVERY_S = 0.05
AT_ONCE = 4
MEDIAN_BELOW_MS = 20.0
"""While four jobs run; from it on the bench fails."""


def scrape_ms(connection: http.client.HTTPConnection) -> tuple[float, bytes]:
    """Scrape once; return the milliseconds it took, and what came."""
    started = time.monotonic()
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read()
    return 1e3 * (time.monotonic() - started), text


def measure(served: Served) -> dict[str, Any]:
    """Scrape again and again; return what that took, and how much work was in hand meanwhile."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    times, in_hand, text = [], [], b""
    for _ in range(WARM_UP + SCRAPES):
        took, text = scrape_ms(connection)
        times.append(took)
        in_hand.append(value(text, b"imagegen_in_progress"))
        time.sleep(EVERY_S)
    connection.close()
    times, in_hand = times[WARM_UP:], in_hand[WARM_UP:]
    ordered = sorted(times)
    return {
        "milliseconds": {**spread(times), "p99": round(ordered[int(0.99 * SCRAPES)], 3)},
        "in_hand": spread(in_hand),
        "kib": round(len(text) / 1024, 1),
    }


def value(text: bytes, name: bytes) -> float:
    """Return the value of a metric without labels."""
    (line,) = (line for line in text.splitlines() if line.startswith(name + b" "))
    return float(line.split()[1])


def main() -> int:
    """Run it, print the table, write the figures. Returns the exit code."""
    with rig(
        MODEL="waiting", PIPELINE="bench.pipelines:Waiting", MAX_CONCURRENT=AT_ONCE
    ) as set_up:
        idle = measure(set_up.served)
        with load(set_up.url, AT_ONCE):
            set_up.served.wait("settled", count=AT_ONCE)
            busy = measure(set_up.served)
    rows = {"idle": idle, "four jobs": busy}
    print_table(
        f"GET /metrics, {SCRAPES} scrapes, {busy['kib']:.0f} KiB, ms",
        ("service", "median", "min", "p99", "max", "in hand (median)"),
        [
            [
                name,
                *(
                    f"{row['milliseconds'][what]:.1f}"
                    for what in ("median", "min", "p99", "max")
                ),
                f"{row['in_hand']['median']:g}",
            ]
            for name, row in rows.items()
        ],
    )
    write("scrape", {**surroundings("prometheus-client", "uvicorn"), "services": rows})
    return verdict(busy)


def verdict(busy: dict[str, Any]) -> int:
    """Return the exit code: 1 where the bar is not met, or four jobs were not under way."""
    median = busy["milliseconds"]["median"]
    if busy["in_hand"]["median"] < AT_ONCE:
        print(f"not under load: {busy['in_hand']} jobs in hand", file=sys.stderr)
        return 1
    if median >= MEDIAN_BELOW_MS:
        print(f"above the bar: {median} ms, {MEDIAN_BELOW_MS:g} asked", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
