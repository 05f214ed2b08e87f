"""A live vhost, and one thing in which it is not as the table says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from consumer import topology

Thing = dict[str, Any]
"""Something as the management API tells it, or as definitions have it."""


@dataclass(frozen=True, slots=True)
class Live:
    """A vhost as the management API tells it; None is what its user may not read."""

    vhost: str
    there: bool = True
    me: str = ""
    """The user of the API."""
    exchanges: Sequence[Thing] = ()
    queues: Sequence[Thing] = ()
    bindings: Sequence[Thing] = ()
    policies: Sequence[Thing] | None = ()
    operator_policies: Sequence[Thing] | None = ()
    users: Sequence[Thing] | None = ()
    permissions: Sequence[Thing] | None = ()

    @property
    def cluster(self) -> bool:
        """Whether the requests wait in a quorum queue; where it is missing, whether others are."""
        requests = named(self.queues, topology.REQUESTS)
        ours = (queue for queue in self.queues if queue["name"] in topology.OWN_OBJECTS)
        deciding = ours if requests is None else [requests]
        return any(type_of(queue) == "quorum" for queue in deciding)

    @property
    def hardened(self) -> bool:
        """Whether callers are kept from the default exchange, as far as rights may be read."""
        written = (
            permission["write"]
            for permission in self.permissions or ()
            if (permission["user"], permission["vhost"]) == (topology.CALLER, self.vhost)
        )
        return any(topology.DEFAULT_EXCHANGE not in pattern for pattern in written)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The table, as it is wanted here."""

    max_queue_size: int
    cluster: bool = False
    hardened: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the management API that mends something."""

    method: Literal["PUT", "POST"]
    path: str
    body: Thing
    done: str
    """What was done then, as a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the table says."""

    thing: str
    """`queue imagegen.requests`"""
    aspect: str
    """`missing`, or what of it differs: `type`, `max-length`, `write`."""
    found: Any = None
    wanted: Any = None
    step: Step | None = None
    """What brings it to the table, where that can be had without losing a message."""
    remedy: str = ""
    """What an operator does, where there is no step."""

    @property
    def sentence(self) -> str:
        """Return it in words."""
        if self.aspect in {"missing", "not in the table"}:
            return f"{self.thing}: {self.aspect}"
        found = "not set" if self.found is None else self.found
        wanted = "none" if self.wanted is None else self.wanted
        return f"{self.thing}: {self.aspect} is {found}, the table says {wanted}"


def named(things: Iterable[Thing], name: str) -> Thing | None:
    """Return the one of this name; None where there is none."""
    return next((thing for thing in things if thing.get("name") == name), None)


def type_of(queue: Thing) -> str:
    """Return the type; a queue that was just declared has no statistics to tell it."""
    return str(
        queue.get("type") or (queue.get("arguments") or {}).get("x-queue-type", "classic")
    )


def body_of(wanted: Thing) -> Thing:
    """Return what the API wants beside the path, which has vhost and name."""
    return {key: wanted[key] for key in wanted.keys() - {"name", "vhost"}}
