"""The report: a row as a line while it runs, and the table in Markdown at the end."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.chaos.plot import curves
from bench.chaos.rows import Outcome
from bench.chaos.soak import STAYER, Soaked
from control.node import server

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
PLOT = "soak.svg"

COLUMNS = (
    "fault",
    "asked",
    "confirmed",
    "refused",
    "**lost**",
    "dup. library",
    "dup. wire",
    "unexpected",
    "recovered",
    "other answers",
    "starts beyond one",
    "GPU s wasted",
    "replays",
    "parked",
    "recovery s",
    "queues empty",
    "descriptors",
    "tasks",
    "channels",
    "seconds",
)


def cells(outcome: Outcome) -> list[str]:
    """Return a row's cells."""
    verdict, work = outcome.verdict, outcome.work
    errors = ", ".join(f"{code} {count}" for code, count in sorted(verdict.errors.items()))
    return [
        outcome.row.tells,
        str(verdict.attempted),
        str(verdict.confirmed),
        str(verdict.refused),
        str(len(verdict.lost)),
        str(verdict.duplicated_library),
        str(verdict.duplicated_wire),
        str(len(verdict.unexpected)),
        str(verdict.recovered),
        errors or "-",
        str(work.beyond_one),
        f"{work.wasted:.1f}",
        str(verdict.replays),
        str(outcome.parked),
        "-" if outcome.recovery_s is None else f"{outcome.recovery_s:.2f}",
        "yes" if outcome.queues_empty else "no",
        _change(outcome, "descriptors"),
        _change(outcome, "tasks"),
        _channels(outcome),
        f"{outcome.seconds:.0f}",
    ]


def _change(outcome: Outcome, what: str) -> str:
    return " ".join(
        f"{getattr(earlier, what)}→{getattr(outcome.after.resources[name], what)}"
        for name, earlier in outcome.before.resources.items()
    )


def _channels(outcome: Outcome) -> str:
    return " ".join(
        f"{earlier}→{outcome.after.channels[name]}"
        for name, earlier in outcome.before.channels.items()
    )


def line(outcome: Outcome) -> str:
    """Return a row as a line for the terminal."""
    verdict = outcome.verdict
    word = "MISSED" if outcome.broken else "kept"
    recovery = "" if outcome.recovery_s is None else f" recovery {outcome.recovery_s:.2f} s"
    return (
        f"{outcome.row.name:<22} {word:<6} {outcome.seconds:5.1f} s  "
        f"asked {verdict.attempted:>3} confirmed {verdict.confirmed:>3} "
        f"refused {verdict.refused:>3} lost {len(verdict.lost)} "
        f"dup {verdict.duplicated_library}/{verdict.duplicated_wire} "
        f"unexpected {len(verdict.unexpected)} again {outcome.work.beyond_one} "
        f"wasted {outcome.work.wasted:.1f} s{recovery}"
        + (f" {verdict.errors}" if verdict.errors else "")
        + (f" exits {list(outcome.exits)}" if outcome.exits else "")
        + "".join(f"\n    . {note}" for note in outcome.notes)
        + "".join(f"\n    ! {sentence}" for sentence in outcome.broken)
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table in Markdown."""
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    return head + "".join(f"| {' | '.join(cells(outcome))} |\n" for outcome in outcomes)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the bench."""

    command: str
    seed: int
    seconds: float
    outcomes: list[Outcome]
    soaked: Soaked | None


def soak_lines(soaked: Soaked) -> list[str]:
    """Return the soak as lines."""
    verdict = soaked.verdict
    return [
        (
            f"Soak: {verdict.attempted:,} requests, {len(soaked.faults)} faults; confirmed "
            f"{verdict.confirmed:,}, refused {verdict.refused:,}, lost {len(verdict.lost)}, "
            f"duplicated {verdict.duplicated_library} (library) and {verdict.duplicated_wire} "
            f"(wire), unexpected {len(verdict.unexpected)}, recovered {verdict.recovered}."
        ),
        *(
            f"{name} of {STAYER}: {min(soaked.samples.figures[name]):g} to "
            f"{max(soaked.samples.figures[name]):g}; slope of the second half "
            f"{found.per_thousand:+.2f} per 1,000 jobs (95 %: {found.low:+.2f} to {found.high:+.2f})."
            for name, found in soaked.slopes.items()
        ),
        *(f"Missed: {sentence}." for sentence in soaked.broken),
    ]


def write(page: Path, run: Run, missed: Sequence[str]) -> None:
    """Put a run between the marks of a page, and the soak's plot beside it.

    Raises:
        ValueError: the page has no marks.
    """
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    if not mark or not after:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{_section(run, missed)}{END}{after}", encoding="utf-8")
    if run.soaked is not None:
        samples = run.soaked.samples
        plot = curves(samples.jobs, samples.figures, [jobs for jobs, _ in run.soaked.faults])
        (page.parent / PLOT).write_text(plot, encoding="utf-8")


def _section(run: Run, missed: Sequence[str]) -> str:
    """Return the Markdown of a run."""
    parts = [_head(run), table(run.outcomes)]
    requests = sum(outcome.verdict.attempted for outcome in run.outcomes)
    duplicates = sum(outcome.verdict.duplicated_wire for outcome in run.outcomes)
    parts.append(
        f"{requests:,} requests in {len(run.outcomes)} rows; {duplicates} duplicates on the wire "
        f"({duplicates / max(requests, 1):.1%}).\n"
    )
    if run.soaked is not None:
        parts.append("\n".join(f"- {text}" for text in soak_lines(run.soaked)) + "\n")
        parts.append(f"![the soak's figures over its jobs]({PLOT})\n")
    notes = [f"{o.row.name}: {note}" for o in run.outcomes for note in o.notes]
    for title, sentences in (("Seen besides", notes), ("Bars missed", missed or ["none"])):
        parts.append(f"{title}:\n\n" + "\n".join(f"- {text}" for text in sentences) + "\n")
    return "\n".join(parts)


def _head(run: Run) -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("aio-pika", "aiormq"))
    return (
        f"Measured {datetime.now(tz=UTC):%Y-%m-%d} by `{run.command}` (seed {run.seed}) "
        f"in {run.seconds / 60:.0f} minutes, commit {commit or 'unknown'}: RabbitMQ {_rabbitmq()}, "
        f"Python {platform.python_version()}, {versions}.\n"
    )


def _rabbitmq() -> str:
    """Return the version of the installed broker."""
    told = subprocess.run(
        [Path(server() or "rabbitmq-server").with_name("rabbitmqctl"), "version"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
