"""The verdict on one thing that was examined: fine, worth a look, or in the way."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, worse than it might; or it could not be told."""
    FAIL = "fail"
    """The service will not work."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the doctor's report."""

    check: str
    level: Level
    finding: str
    remedy: str = ""
    """What to do, in one line; empty where there is nothing to do."""


def ok(check: str, finding: str) -> Verdict:
    """All is well."""
    return Verdict(check, Level.OK, finding)


def warn(check: str, finding: str, remedy: str) -> Verdict:
    """It goes on, but somebody should look."""
    return Verdict(check, Level.WARN, finding, remedy)


def fail(check: str, finding: str, remedy: str) -> Verdict:
    """It does not go on."""
    return Verdict(check, Level.FAIL, finding, remedy)
