"""The bench of faults: `python -m bench.chaos`. Ends with 1 where a bar was missed."""

import argparse
import asyncio
import logging
import time
import sys
import tempfile
from pathlib import Path

from bench.chaos.bars import too_many_duplicates
from bench.chaos.house import open_house
from bench.chaos.report import line, table
from bench.chaos.rows import Outcome, Row, run_row
from bench.chaos.table import ROWS

JOB_TIMEOUT_S = 12.0
"""The GPU's hard limit for one picture: above the stall of 10 s, so that no stall looks like a hang."""


async def main(arguments: argparse.Namespace) -> int:
    for noisy in ("aio_pika", "aiormq", "pika"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    began = time.monotonic()
    rows = [row for row in ROWS if not arguments.row or row.name in arguments.row]
    with tempfile.TemporaryDirectory(prefix="imagegen-chaos-") as name:
        async with open_house(Path(name), JOB_TIMEOUT_S=JOB_TIMEOUT_S) as house:
            print(f"house {time.monotonic()-began:.1f}", flush=True)
            outcomes = []
            for row in rows:
                outcome = await run_row(house, row, arguments.seed, short=arguments.short)
                print(line(outcome), flush=True)
                outcomes.append(outcome)
    print(f"end {time.monotonic()-began:.1f}", flush=True)
    print(table(outcomes))
    return int(any(outcome.broken for outcome in outcomes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--row", nargs="+")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(asyncio.run(main(parser.parse_args())))
