"""The fault bench in its short form: every fault that is over in seconds; the rest is `make chaos`."""

import logging

import pytest
import pytest_asyncio

from bench.chaos.house import open_house
from bench.chaos.rows import run_row
from bench.chaos.table import ROWS

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = [row for row in ROWS if row.short]
SEED = 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    """A broker, two consumers with one store, and links to break, for all rows."""
    for noisy in ("aio_pika", "aiormq", "pika"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    folder = tmp_path_factory.mktemp("chaos")
    async with open_house(folder, stall_s=1.0, JOB_TIMEOUT_S=1.5) as house:
        yield house


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.name)
async def test_nothing_is_lost_doubled_or_mixed_up(house, row):
    """Whatever is broken: every confirmed request gets its one right answer, and nothing is left over."""
    outcome = await run_row(house, row, SEED, short=True)
    assert outcome.broken == ()
    assert outcome.verdict.pictures > 0
