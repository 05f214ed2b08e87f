"""The bench: `python -m bench.scaling`. Ends with 1 where eight consumers draw less than 7.5 times as much as one."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import print_table, surroundings, write
from bench.scaling.fleet import House, opened
from bench.scaling.plot import picture
from bench.scaling.run import UTILISATION, Spans, busy, by_chance, idle, words

COUNTS = (1, 2, 4, 8)
TIMES_AT_LEAST = {8: 7.5}
"""The throughput of one, by the number of consumers; below it the bench fails."""
PLOT = Path("docs/scaling.svg")
QUICK = Spans(idle=2.0, busy=12.0, by_chance=8.0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument(
        "--jobs-in-hand", type=int, default=2, metavar="N", help="MAX_CONCURRENT (default 2)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="short spans: for a look, no figures"
    )
    parser.add_argument("--plot", type=Path, default=PLOT, metavar="FILE")
    return parser.parse_args()


def measure(house: House, count: int, jobs_in_hand: int, spans: Spans) -> dict[str, Any]:
    """Return the figures of so many consumers."""
    name = f"{count} consumer{'s' * (count > 1)}"

    def tell(sentence: str) -> None:
        print(f"\r\x1b[K{name}: {sentence}", end="", flush=True)

    tell("starting")
    with house.fleet(count, jobs_in_hand) as fleet:
        figures: dict[str, Any] = {
            "idle": idle(fleet, spans, tell),
            "words": words(fleet, tell),
            "busy": busy(fleet, spans, tell),
        }
        # By what one GPU draws here, so that the GPUs have the same share of work in every run.
        a_gpu = figures["busy"]["throughput"] / count
        figures["by_chance"] = by_chance(fleet, spans, a_gpu, tell)
    told = figures["busy"]
    tell(f"{told['throughput']:.3f} pictures/s, {told['cpu_ms_a_picture']} ms of CPU each\n")
    return figures


def missed(figures: dict[int, dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each bar that was not reached."""
    for count, each in figures.items():
        if each["busy"]["torch"]:
            yield f"{count}: a GPU process has torch in its memory"
        for errors in (each["busy"]["errors"], each["by_chance"]["errors"]):
            if errors:
                yield f"{count}: {len(errors)} requests failed: {', '.join(sorted(set(errors)))}"
    for count, least in TIMES_AT_LEAST.items():
        if {1, count} <= figures.keys():
            times = figures[count]["busy"]["throughput"] / figures[1]["busy"]["throughput"]
            if times < least:
                yield f"{count} consumers draw {times:.2f} times as much as one, not {least:g}"


def _print(figures: dict[int, dict[str, Any]]) -> None:
    first = min(figures)
    one = figures[first]["busy"]["throughput"] / first
    rows = []
    for count, each in figures.items():
        told, chance, idle_ = each["busy"], each["by_chance"], each["idle"]
        rows.append(
            [
                count,
                f"{told['throughput']:.3f}",
                f"{told['throughput'] / one:.2f}",
                f"{told['throughput'] / one / count:.1%}",
                f"{told['wait_s']['median']:.2f} / {told['wait_s']['p95']:.2f}",
                f"{chance['wait_s']['mean']:.2f} / {chance['wait_s']['p95']:.2f}",
                " / ".join(
                    f"{told['cpu_ms_a_picture'][group]:.0f}"
                    for group in ("consumers", "broker", "database", "callers")
                ),
                told["messages_a_picture"]["publish"],
                f"{told['messages_a_picture']['deliver'] + told['messages_a_picture']['deliver_no_ack']:.1f}",
                told["transactions_a_picture"],
                f"{told['connections']} / {told['channels']}",
                f"{idle_['cpu_ms']:.1f}",
            ]
        )
    print_table(
        f"2 s a picture; wait in a rush, and with {UTILISATION:.0%} of the GPUs busy by chance",
        (
            "consumers",
            "pictures/s",
            "times one",
            "efficiency",
            "wait in a rush s, median / p95",
            "wait by chance s, mean / p95",
            "CPU ms a picture: consumers / broker / database / callers",
            "published a picture",
            "delivered a picture",
            "transactions a picture",
            "connections / channels",
            "idle CPU ms/s of a consumer",
        ),
        rows,
    )


def main() -> int:
    """Run it, print the table, draw the plot, write the figures. Returns the exit code."""
    arguments = _arguments()
    spans = QUICK if arguments.quick else Spans()
    figures: dict[int, dict[str, Any]] = {}
    with opened() as house:
        for count in sorted(arguments.counts):
            figures[count] = measure(house, count, arguments.jobs_in_hand, spans)
    _print(figures)
    arguments.plot.write_text(picture(figures), encoding="utf-8")
    print(f"\nwritten to {arguments.plot}")
    write(
        "scaling",
        {
            **surroundings("aio-pika", "psycopg", "sqlalchemy"),
            "jobs_in_hand": arguments.jobs_in_hand,
            "consumers": figures,
        },
    )
    sentences = list(missed(figures))
    for sentence in sentences:
        print(f"missed: {sentence}", file=sys.stderr)
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
