"""The bench of faults: `python -m bench.chaos`. Ends with 1 where a bar was missed."""

import argparse
import asyncio
import contextlib
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.chaos.bars import too_many_duplicates
from bench.chaos.house import House, open_cluster_house, open_house
from bench.chaos.report import Run, line, soak_lines, write
from bench.chaos.rows import Outcome, Row, run_row
from bench.chaos.soak import Soaked, soak
from bench.chaos.table import CLUSTER_ROWS, ROWS, SOAK_ROWS

JOB_TIMEOUT_S = 12.0
"""The GPU's hard limit for one picture: above the stall of 10 s, so that no stall looks like a hang."""
SOAK_JOBS = 2000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--row", nargs="+", metavar="NAME", help="these rows only, no soak")
    parser.add_argument("--short", action="store_true", help="the short form, as in the tests")
    parser.add_argument("--seed", type=int, default=1, help="of load and faults (default 1)")
    parser.add_argument(
        "--soak",
        type=int,
        metavar="JOBS",
        help=f"pictures in the soak, 0 for none (default {SOAK_JOBS:,} in the full run)",
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table into this page"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="work here, and leave the logs"
    )
    return parser.parse_args()


async def _rows(
    house: House, rows: Sequence[Row], arguments: argparse.Namespace
) -> list[Outcome]:
    outcomes = []
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name} ...", end="\r", flush=True)
        outcome = await run_row(house, row, arguments.seed, short=arguments.short)
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    return outcomes


async def _run(arguments: argparse.Namespace) -> Run:
    """Run what was asked for: first the rows of one node with the soak, then the cluster's."""
    began = time.monotonic()
    wanted = [row for row in ROWS if _chosen(row, arguments)]
    of_cluster = [row for row in CLUSTER_ROWS if _chosen(row, arguments)]
    outcomes: list[Outcome] = []
    soaked: Soaked | None = None
    jobs = _soak_jobs(arguments)
    with _folder(arguments.keep) as folder:
        if wanted or jobs:
            async with open_house(folder / "one", JOB_TIMEOUT_S=JOB_TIMEOUT_S) as house:
                outcomes += await _rows(house, wanted, arguments)
                if jobs:
                    soaked = await soak(house, SOAK_ROWS, jobs, arguments.seed, print)
                    print("\n".join(soak_lines(soaked)), flush=True)
        if of_cluster:
            async with open_cluster_house(
                folder / "three", JOB_TIMEOUT_S=JOB_TIMEOUT_S
            ) as house:
                outcomes += await _rows(house, of_cluster, arguments)
    command = shlex.join(["python", "-m", "bench.chaos", *sys.argv[1:]])
    return Run(command, arguments.seed, time.monotonic() - began, outcomes, soaked)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Lend the folder of brokers, stores and logs; it goes unless it is to be kept."""
    if kept is not None:
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="imagegen-chaos-") as name:
        yield Path(name)


def _chosen(row: Row, arguments: argparse.Namespace) -> bool:
    if arguments.row:
        return row.name in arguments.row
    if arguments.soak and arguments.write is None:
        return False
    return row.short or not arguments.short


def _soak_jobs(arguments: argparse.Namespace) -> int:
    if arguments.soak is not None:
        return int(arguments.soak)
    return 0 if arguments.row or arguments.short else SOAK_JOBS


def _missed(run: Run, *, whole: bool) -> list[str]:
    """Return every bar missed, with its row; that on the table where it is the whole one."""
    sentences = [
        f"{outcome.row.name}: {sentence}"
        for outcome in run.outcomes
        for sentence in outcome.broken
    ]
    if run.soaked is not None:
        sentences += [f"soak: {sentence}" for sentence in run.soaked.broken]
    duplicates = too_many_duplicates(run.outcomes) if whole else None
    return sentences if duplicates is None else [*sentences, duplicates]


def main() -> int:
    """Run the bench. Returns the exit code."""
    arguments = _arguments()
    every = [row.name for row in (*ROWS, *CLUSTER_ROWS)]
    if arguments.list:
        print("\n".join(f"{row.name:<24}{row.tells}" for row in (*ROWS, *CLUSTER_ROWS)))
        return 0
    if unknown := [name for name in arguments.row or () if name not in every]:
        print(f"no such row: {', '.join(unknown)}; --list names them", file=sys.stderr)
        return 2
    for noisy in ("aio_pika", "aiormq", "pika"):
        # They tell of every connection that is cut: here that is the purpose.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    run = asyncio.run(_run(arguments))
    missed = _missed(run, whole=not arguments.row)
    print(f"\n{len(run.outcomes)} rows in {run.seconds:.0f} s; bars missed: {len(missed)}")
    print("\n".join(f"  {sentence}" for sentence in missed))
    if arguments.write is not None:
        write(arguments.write, run, missed)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
