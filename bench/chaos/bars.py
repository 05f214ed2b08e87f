"""The bars: what a row must keep, as sentences about those it missed. Pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.chaos.house import Holdings
    from bench.chaos.rows import Outcome

RECOVERY_S = 5.0
"""From the broker's port or the link being there again to the first delivery."""
MORE_DESCRIPTORS, MORE_CHANNELS, MORE_TASKS = 6, 2, 4
"""Of one process over one row. A first use opens the store's files, and a publish beside another
one more channel that is kept; what grows without end shows in the soak."""
WIRE_DUPLICATES = 0.02
"""Of all requests of the table."""


def missed(outcome: "Outcome", *, timed: bool) -> "Iterator[str]":
    """Tell the bars that a row missed; those on time only where it is `timed`."""
    verdict = outcome.verdict
    if verdict.lost:
        yield f"lost {len(verdict.lost)}: {', '.join(verdict.lost[:3])}"
    if verdict.unexpected:
        yield f"unexpected {len(verdict.unexpected)}: {'; '.join(verdict.unexpected[:3])}"
    if verdict.duplicated_library:
        yield f"{verdict.duplicated_library} duplicates at the client library"
    recovers = outcome.recovers and not outcome.row.supervised
    if recovers and outcome.recovery_s is None:
        yield "no delivery after the recovery"
    elif recovers and timed and (outcome.recovery_s or 0.0) > RECOVERY_S:
        yield f"first delivery after {outcome.recovery_s:.1f} s, not {RECOVERY_S:g} s"
    if not outcome.queues_empty:
        yield "queues not empty, or work in hand, at the end"
    yield from grown(outcome.before, outcome.after)


def grown(before: "Holdings", after: "Holdings") -> "Iterator[str]":
    """Tell what a consumer that lived through the row holds more than before it."""
    for name, earlier in before.resources.items():
        later = after.resources[name]
        if earlier.pid != later.pid:
            continue
        for what, more, most in (
            ("descriptors", later.descriptors - earlier.descriptors, MORE_DESCRIPTORS),
            ("tasks", later.tasks - earlier.tasks, MORE_TASKS),
            ("channels", after.channels[name] - before.channels[name], MORE_CHANNELS),
        ):
            if more > most:
                yield f"{name} holds {more} more {what}"


def too_many_duplicates(outcomes: "list[Outcome]") -> str | None:
    """Tell if the table has more duplicates on the wire than it may."""
    duplicates = sum(outcome.verdict.duplicated_wire for outcome in outcomes)
    requests = sum(outcome.verdict.attempted for outcome in outcomes)
    if duplicates <= WIRE_DUPLICATES * requests:
        return None
    return f"{duplicates} duplicates on the wire in {requests} requests"
