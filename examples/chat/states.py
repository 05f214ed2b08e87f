"""The states of a wish, and which may follow which. Pure."""

from enum import StrEnum


class State(StrEnum):
    """Where a picture stands."""

    ASKED = "asked"
    """On its way, or in the queue."""
    DRAWING = "drawing"
    DRAWN = "drawn"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDS = frozenset({State.DRAWN, State.FAILED, State.CANCELLED})
TRANSITIONS: dict[State, frozenset[State]] = {
    State.ASKED: _ENDS | {State.DRAWING},
    State.DRAWING: _ENDS,
    State.DRAWN: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
UNDER_WAY = tuple(state for state, after in TRANSITIONS.items() if after)


def before(state: State) -> tuple[State, ...]:
    """Return the states that this one may follow."""
    return tuple(earlier for earlier, after in TRANSITIONS.items() if state in after)
