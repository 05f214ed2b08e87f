"""The report: a row as a line while it runs, and the table in Markdown at the end."""

from collections.abc import Sequence

from bench.chaos.rows import Outcome

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
