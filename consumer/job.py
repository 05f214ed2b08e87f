"""The job: its states, its outcomes and what each outcome does to reply and delivery."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from consumer.errors import Fault
from schemas.reply import ResultFacts
from schemas.request import OutputFormat


class State(StrEnum):
    """Where a job stands."""

    NEW = "new"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ABANDONED = "abandoned"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED, State.FAILED}),
    State.RUNNING: frozenset(
        {
            State.RUNNING,  # taken over, or tried again
            State.NEW,  # given back to the queue by a stop
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
            State.EXPIRED,
            State.ABANDONED,
        }
    ),
    State.SUCCEEDED: frozenset({State.RUNNING}),  # its picture was pruned
    State.FAILED: frozenset({State.NEW, State.RUNNING}),  # a retryable failure, asked for again
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset({State.NEW, State.RUNNING}),  # sent again with more patience
    State.ABANDONED: frozenset({State.NEW, State.RUNNING}),  # somebody asks for it again
}


class IllegalTransitionError(Exception):
    """A job was asked to go where it cannot; nothing was changed."""


def move(state: State, to: State) -> State:
    """Return `to`, if the table allows it from `state`."""
    if to not in TRANSITIONS[state]:
        raise IllegalTransitionError(f"{state} -> {to}")
    return to


class IdSource(StrEnum):
    """Where a job's id came from, which decides when an earlier result may answer for it."""

    GIVEN = "given"
    """The caller's `message_id`: looked up on every delivery."""
    DERIVED = "derived"
    """Of reply_to, correlation_id and body: looked up on a redelivery only."""
    NONE = "none"
    """Made up here: at least once."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: the request with every default filled in."""

    prompt: str
    width: int
    height: int
    seed: int
    forwards: int
    steps: int
    """As the request or the setting counts them."""
    guidance: float
    output_format: OutputFormat


@dataclass(frozen=True, slots=True)
class Job:
    """An admitted request."""

    id: str
    id_source: IdSource
    body_sha256: str
    drawing: Drawing
    published: datetime
    """By the publisher's timestamp, or the receipt."""
    deadline: datetime
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The picture is there."""

    facts: ResultFacts
    image: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The request itself is at fault; it never reached the GPU."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Expired:
    """The caller's patience ended."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody who may do so called it off."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not work, for good or after the retries in place."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Poison:
    """It brought the GPU process down as often as we allow."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """It cannot be read, or may not be answered where it asks to be."""

    reason: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """We stop, or cannot reach our store; another consumer shall do it."""


@dataclass(frozen=True, slots=True)
class AnsweredBefore:
    """A redelivery; the broker had confirmed our answer, only the ack was lost."""


Outcome = (
    Succeeded
    | Refused
    | Expired
    | Cancelled
    | Abandoned
    | Failed
    | Poison
    | Unanswerable
    | GivenBack
    | AnsweredBefore
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an outcome does, in this order: park a copy, reply, settle the delivery."""

    park: bool
    reply: Literal["result", "error", "none"]
    settle: Literal["ack", "requeue"]


SETTLEMENT: dict[type[Outcome], Settlement] = {
    Succeeded: Settlement(park=False, reply="result", settle="ack"),
    Refused: Settlement(park=False, reply="error", settle="ack"),
    Expired: Settlement(park=False, reply="error", settle="ack"),
    Cancelled: Settlement(park=False, reply="error", settle="ack"),
    Abandoned: Settlement(park=False, reply="none", settle="ack"),
    Failed: Settlement(park=False, reply="error", settle="ack"),
    Poison: Settlement(park=True, reply="error", settle="ack"),
    Unanswerable: Settlement(park=True, reply="none", settle="ack"),
    GivenBack: Settlement(park=False, reply="none", settle="requeue"),
    AnsweredBefore: Settlement(park=False, reply="none", settle="ack"),
}

FINAL_STATE: dict[type[Outcome], State] = {
    Succeeded: State.SUCCEEDED,
    Refused: State.FAILED,
    Expired: State.EXPIRED,
    Cancelled: State.CANCELLED,
    Abandoned: State.ABANDONED,
    Failed: State.FAILED,
    Poison: State.FAILED,
    GivenBack: State.NEW,
}
"""The state a job is left in by each outcome that a job can have."""
