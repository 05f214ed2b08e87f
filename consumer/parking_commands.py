"""The commands at the parking queue: what they print, and what they exit with."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer import guard
from consumer.cli import EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE
from consumer.parking import Again, Parked, ParkingUnreachableError, Replayed, opened

WIDTH = 10_000
"""Characters; more than any row has."""


def list_parked(url: str, *, as_json: bool, prompts: bool) -> int:
    """Show what is parked. Returns the exit code."""
    return _run_parking(_list_parked(url, as_json=as_json, prompts=prompts))


async def _list_parked(url: str, *, as_json: bool, prompts: bool) -> int:
    hidden = set() if prompts else {"prompt"}
    async with opened(url) as parking:
        rows = [
            {name: value for name, value in asdict(parked).items() if name not in hidden}
            async for parked, _ in parking.walk()
        ]
    for row in rows:
        row["parked_at"] = row["parked_at"] and row["parked_at"].isoformat()
    if as_json:
        for row in rows:
            print(json.dumps(row))  # noqa: T201
        return 0
    table = Table(*rows[0], box=None) if rows else Table.grid()
    for row in rows:
        table.add_row(*(_harmless(value) for value in row.values()))
    # Ids are to be copied: the terminal may wrap a line, but nothing is cut off.
    console = Console(width=WIDTH, highlight=False, markup=False)
    console.print(table if rows else "Nothing is parked.")
    return 0


def _harmless(value: object) -> Text:
    """Return what strangers wrote as text that no terminal obeys."""
    text = "" if value is None else str(value)
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def replay_parked(url: str, ids: set[str] | None, again: Again) -> int:
    """Publish parked requests again. Returns the exit code."""
    return _run_parking(_replay_parked(url, ids, again))


async def _replay_parked(url: str, ids: set[str] | None, again: Again) -> int:
    console = Console(highlight=False, markup=False)
    seen: set[str] = set()
    unfit = False
    async with opened(url) as parking:
        async for parked, message in parking.walk():
            if not _is_meant(parked, ids, seen):
                continue
            told = await parking.replay(parked, message, again)
            if told is Replayed.UNFIT:
                unfit = True
                line = f"{parked.id} is no request that can be published: drop it."
                console.print(_harmless(line), soft_wrap=True)
                continue
            if told is not Replayed.TAKEN:
                console.print(_STAYS[told], soft_wrap=True)
                return EXIT_TRY_AGAIN if told is Replayed.FULL else EXIT_UNAVAILABLE
            console.print(_harmless(f"{parked.id} replayed"), soft_wrap=True)
    return _tell_missing(ids, seen, console) or (EXIT_FAILED if unfit else 0)


_STAYS = {
    Replayed.FULL: "The queue is full: the rest stays parked. Try again in a few seconds.",
    Replayed.RETURNED: "There is no queue of requests: the rest stays parked. "
    "Is the service set up on this vhost?",
}


def drop_parked(url: str, ids: set[str] | None) -> int:
    """Throw parked requests away. Returns the exit code."""
    return _run_parking(_drop_parked(url, ids))


async def _drop_parked(url: str, ids: set[str] | None) -> int:
    console = Console(highlight=False, markup=False)
    seen: set[str] = set()
    async with opened(url) as parking:
        async for parked, message in parking.walk():
            if _is_meant(parked, ids, seen):
                await message.ack()
                console.print(_harmless(f"{parked.id} dropped"), soft_wrap=True)
    return _tell_missing(ids, seen, console)


def _is_meant(parked: Parked, ids: set[str] | None, seen: set[str]) -> bool:
    """Whether this one was asked for; notes by which names it was."""
    named = {parked.id, parked.job_id} & (ids or set())
    seen |= named
    return ids is None or bool(named)


def _tell_missing(ids: set[str] | None, seen: set[str], console: Console) -> int:
    missing = sorted((ids or set()) - seen)
    for name in missing:
        console.print(_harmless(f"{name} is not parked."), soft_wrap=True)
    return EXIT_FAILED if missing else 0


def _run_parking(command: Coroutine[Any, Any, int]) -> int:
    guard.install()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(command)
    except ParkingUnreachableError as error:
        Console(stderr=True, highlight=False, markup=False).print(str(error), soft_wrap=True)
        return EXIT_UNAVAILABLE
