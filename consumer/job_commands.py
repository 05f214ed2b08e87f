"""The commands at jobs: which there are, where one stands, and calling one off."""

import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer.carrier import Carrier, Route, reached
from consumer.cli import console_of, exit_code_of, run, tell_error
from imagegen_client import ImageError, JobStatus

WIDTH = 10_000
"""Characters; more than any row has."""
PROMPT_WIDTH = 48

Work = Callable[[Carrier, Console], Coroutine[Any, Any, int]]


def list_jobs(route: Route, limit: int, *, as_json: bool) -> int:
    """Show the newest jobs. Returns the exit code."""

    async def work(carrier: Carrier, _: Console) -> int:
        jobs = await carrier.jobs(limit)
        if as_json:
            for status in jobs:
                _print_json(status)
        else:
            # Ids are to be copied: the terminal may wrap a line, but nothing is cut off.
            wide = Console(width=WIDTH, highlight=False, markup=False)
            wide.print(_table(jobs, datetime.now(tz=UTC)) if jobs else "There are no jobs.")
        return 0

    return _carry_out(route, work, as_json=as_json)


def show_status(route: Route, job_id: str, *, as_json: bool) -> int:
    """Show where a job stands. Returns the exit code."""

    async def work(carrier: Carrier, console: Console) -> int:
        _show(await carrier.status(job_id), console, as_json=as_json)
        return 0

    return _carry_out(route, work, as_json=as_json)


def watch(route: Route, job_id: str, *, as_json: bool) -> int:
    """Show each change of a job until its end. Returns the exit code of that end."""

    async def work(carrier: Carrier, console: Console) -> int:
        status, told = None, ""
        async with contextlib.aclosing(carrier.watch(job_id)) as changes:
            async for status in changes:
                if as_json:
                    _print_json(status)
                elif not status.ended and (line := _standing(status)) != told:
                    console.print(line)
                    told = line
        if status is None:
            raise AssertionError("a watch begins with a state")
        if not as_json:
            _show(status, console, as_json=False)
        return 0 if status.error is None else exit_code_of(status.error["code"])

    return _carry_out(route, work, as_json=as_json)


def call_off(route: Route, job_id: str) -> int:
    """Call a job off. Returns the exit code."""

    async def work(carrier: Carrier, console: Console) -> int:
        status = await carrier.cancel(job_id)
        if status is not None and status.ended:
            console.print(f"{job_id} has ended: {status.status}.", soft_wrap=True)
        else:
            console.print(f"{job_id} is called off: it stops at its next step.", soft_wrap=True)
        return 0

    return _carry_out(route, work, as_json=False)


def _carry_out(route: Route, work: Work, *, as_json: bool) -> int:
    aside = console_of(stderr=True)

    async def carried() -> int:
        try:
            async with reached(route) as carrier:
                return await work(carrier, console_of(stderr=False))
        except ImageError as error:
            return tell_error(error, aside, as_json=as_json)

    return run(carried(), aside, "Interrupted. The job is left as it is.")


def _print_json(status: JobStatus) -> None:
    print(json.dumps(asdict(status)))  # noqa: T201


def _show(status: JobStatus, console: Console, *, as_json: bool) -> None:
    if as_json:
        _print_json(status)
        return
    facts = Table.grid(padding=(0, 2))
    for name, value in asdict(status).items():
        if name == "error" and value:
            facts.add_row(name, harmless(f"{value['code']}: {value['message']}"))
        elif value is not None and value is not False:
            facts.add_row(name, harmless(str(value)))
    console.print(facts)


def _table(jobs: list[JobStatus], now: datetime) -> Table:
    table = Table("id", "status", "size", "standing", "age", "prompt", box=None)
    for status in jobs:
        size = f"{status.width}x{status.height}" if status.width else ""
        table.add_row(
            harmless(status.job_id),
            status.status,
            size,
            harmless(_how_far(status)),
            _age(status.queued_at, now),
            _cut(harmless(status.prompt or "")),
        )
    return table


def _standing(status: JobStatus) -> str:
    return " ".join(word for word in (status.status, _how_far(status)) if word)


def _how_far(status: JobStatus) -> str:
    """Return what is told of a job beside its state: its place, its steps, its time or its error."""
    if status.error is not None:
        return str(status.error["code"])
    if status.status == "queued" and status.position:
        wait = "" if status.estimated_wait is None else f", about {status.estimated_wait:.0f} s"
        return f"place {status.position}{wait}"
    if status.status == "running" and status.steps:
        return f"step {status.step or 0} of {status.steps}"
    if status.generation_time is not None:
        return f"{status.generation_time:.2f} s"
    return ""


def _age(queued_at: str, now: datetime) -> str:
    """Return how long ago that was, in the greatest unit that fits."""
    try:
        seconds = max(0.0, (now - datetime.fromisoformat(queued_at)).total_seconds())
    except (ValueError, TypeError):  # not as the contract has it
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _cut(text: Text) -> Text:
    text.truncate(PROMPT_WIDTH, overflow="ellipsis")
    return text


def harmless(value: str) -> Text:
    """Return what strangers wrote as text that no terminal obeys."""
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in value))
