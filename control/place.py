"""Where the service of this clone runs, natively or in containers: one face, and the choice."""

from dataclasses import dataclass
from typing import Literal, Protocol

from control.say import Failure
from control.settings import PREFIX

Kind = Literal["native", "compose"]
NOT_READY = 3
"""Exit code of `status` where the service takes no requests."""


class Place(Protocol):
    """What the commands of control.sh mean in a place. Each returns the exit code."""

    def init(self) -> int: ...

    def build(self, arguments: list[str]) -> int: ...

    def start(self) -> int: ...

    def stop(self) -> int: ...

    def restart(self) -> int: ...

    def status(self) -> int: ...

    def generate(self, arguments: list[str]) -> int: ...

    def logs(self, arguments: list[str]) -> int: ...

    def doctor(self, arguments: list[str]) -> int: ...

    def amqp_url(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine as the command `docker` finds it; `problem` tells why it is of no use."""

    version: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the choice is made of; `engine` is None where there is no command `docker`."""

    wanted: str | None
    runs_natively: bool
    broker_given: bool
    engine: Engine | None
    in_containers: bool = False
    """Whether its containers were made ready once; they may run unseen."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place, and why; nothing is told where nothing was to be chosen."""

    kind: Kind
    reason: str = ""


def choose(facts: Facts) -> Choice:
    """Return containers where an engine answers and nothing speaks for this machine itself.

    Raises:
        Failure: IMAGE_GEN_RUN is no place, or containers that are wanted cannot be had.
    """
    if facts.wanted == "compose":
        return _insist(facts)
    if facts.wanted not in {None, "native"}:
        raise Failure(
            f"{PREFIX}RUN is {facts.wanted!r}.", "Give native or compose, or unset it."
        )
    if facts.wanted == "native" or facts.engine is None:
        return Choice("native")
    if facts.runs_natively:
        return Choice("native", "Natively: that is where the service of this clone runs.")
    if facts.broker_given:
        return Choice("native", f"Natively: {PREFIX}AMQP_URL names a broker.")
    if facts.engine.problem and facts.in_containers:
        # A second service with a broker of its own, while the engine is away, would be a surprise.
        raise Failure(
            f"The service of this clone is in containers, but {facts.engine.problem}",
            f"Put that right, or run a service without them: {PREFIX}RUN=native.",
        )
    if facts.engine.problem:
        return Choice("native", f"Natively: {facts.engine.problem}")
    return Choice(
        "compose",
        f"In containers: Docker Engine {facts.engine.version} answers"
        f" ({PREFIX}RUN=native to run without).",
    )


def _insist(facts: Facts) -> Choice:
    """Return containers, or raise for what is in their way."""
    problem = (
        "the command docker is not there." if facts.engine is None else facts.engine.problem
    )
    if problem:
        raise Failure(
            f"{PREFIX}RUN asks for containers, but {problem}",
            "Put that right, or unset it to run natively.",
        )
    if facts.broker_given:
        raise Failure(
            f"{PREFIX}AMQP_URL names a broker, and the containers bring their own.",
            f"Unset it, or run natively: {PREFIX}RUN=native.",
        )
    return Choice("compose")
