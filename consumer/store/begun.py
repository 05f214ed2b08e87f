"""The begun: what a store says to who would begin a job."""

from dataclasses import dataclass

from consumer.job import Outcome, State


@dataclass(frozen=True, slots=True)
class Started:
    """The job is ours to run; the attempt is already counted."""

    attempt: int
    deaths: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The job runs under somebody else's lease."""

    owner: str
    left_s: float
    """Seconds until that lease ends, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The job was finished before: this is its answer."""

    outcome: Outcome
    generation_time_s: float
    """Seconds that its picture took then; 0.0 for an error."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The same id was used with another body."""


Begun = Started | Elsewhere | Finished | Conflict


@dataclass(frozen=True, slots=True)
class Known:
    """A job that somebody would have wait is under way, or has an end that stays."""

    state: State
