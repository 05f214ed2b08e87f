"""The page on states, made from the tables that the service runs by."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from consumer import job
from consumer.gpu import process
from schemas.errors import ERRORS


def markdown() -> str:
    """Return docs/states.md."""
    return "\n".join(
        [
            "# States, settlements and errors",
            "",
            "Made by `make generate` from the tables in `consumer/job.py`,",
            "`consumer/gpu/process.py` and `schemas/errors.py`; do not edit.",
            "",
            "## A job",
            "",
            *_diagram(job.TRANSITIONS),
            "",
            "## What an outcome does",
            "",
            "In this order: park a copy, reply, settle. Nothing is settled before the broker has",
            "confirmed what comes before it.",
            "",
            "| outcome | parked | reply | delivery |",
            "|---|---|---|---|",
            *_settlements(),
            "",
            "## The GPU process",
            "",
            *_diagram(process.TRANSITIONS),
            "",
            "## Errors",
            "",
            "| code | retryable | in replies | HTTP | meaning |",
            "|---|---|---|---|---|",
            *_errors(),
            "",
        ]
    )


def _diagram(transitions: Mapping[Any, Iterable[StrEnum]]) -> list[str]:
    arrows = [
        f"    {state} --> {to}" for state, goals in transitions.items() for to in sorted(goals)
    ]
    return ["```mermaid", "stateDiagram-v2", *arrows, "```"]


def _settlements() -> list[str]:
    return [
        f"| {outcome.__name__}: {_first_sentence(outcome)} | {'yes' if row.park else 'no'} "
        f"| {row.reply} | {row.settle} |"
        for outcome, row in job.SETTLEMENT.items()
    ]


def _first_sentence(outcome: type) -> str:
    return (outcome.__doc__ or "").strip().rstrip(".")


def _errors() -> list[str]:
    return [
        f"| `{code.value}` | {'yes' if spec.retryable else 'no'} | {'yes' if spec.amqp else 'no'} "
        f"| {spec.http_status} | {spec.meaning} |"
        for code, spec in ERRORS.items()
    ]
