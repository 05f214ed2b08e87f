"""The report: the verdicts as lines for people or for programs, and the exit code. No secret is in it."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from consumer.doctor.examine import examine, examine_machine
from consumer.doctor.place_verdicts import judge_settings
from consumer.doctor.verdict import Level, Verdict
from consumer.errors import EXIT_CONFIG
from consumer.logs import Scrubber, secrets_in
from consumer.settings import SettingsError, read_settings

EXIT_FAILED = 1
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
_WIDTH = 13
"""Of the longest name of a check, and a space."""


def run(*, as_json: bool) -> int:
    """Examine this machine by its settings and tell. Returns the exit code."""
    # The libraries tell of every refusal that is looked for.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        settings = read_settings()
    except SettingsError as error:
        tell(judge_settings(error.sentences), Scrubber(), as_json=as_json)
        tell(examine_machine(), Scrubber(), as_json=as_json)
        return EXIT_CONFIG
    return tell(examine(settings), Scrubber(secrets_in(settings)), as_json=as_json)


def tell(verdicts: Iterable[Verdict], scrubber: Scrubber, *, as_json: bool) -> int:
    """Tell each verdict as it comes. Returns 1 if one of them is a failure."""
    console = Console(highlight=False, markup=False)
    failed = False
    for verdict in verdicts:
        failed = failed or verdict.level is Level.FAIL
        told = {name: scrubber.text(value) for name, value in asdict(verdict).items()}
        if as_json:
            print(json.dumps(told), flush=True)  # noqa: T201
        else:
            _print(told, verdict.level, console)
    return EXIT_FAILED if failed else 0


def _print(told: dict[str, str], level: Level, console: Console) -> None:
    head = Text.assemble((f"{level:<5}", _STYLES[level]), f"{told['check']:<{_WIDTH}}")
    console.print(head, told["finding"], soft_wrap=True)
    if told["remedy"]:
        console.print(" " * (_WIDTH + 5), "->", told["remedy"], soft_wrap=True)
