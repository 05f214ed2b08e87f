"""The topology: every exchange, queue, policy, user and right as data, and what a broker lacks of it."""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

VHOST = "imagegen"

EXCHANGE = "imagegen"
DLX = "imagegen.dlx"
CONTROL = "imagegen.control"
EVENTS = "imagegen.events"
REQUESTS = "imagegen.requests"
EXPIRED = "imagegen.expired"
PARKING = "imagegen.parking"

CLIENT_QUEUE_PREFIX = "imagegen.client."
"""Callers' own reply queues that survive a lost connection begin with this."""

Arguments = dict[str, int | str]

NO_LIMIT = 1_000_000
"""Deliveries of what must stay: quorum queues of 4.x drop after 20, each look at it being one."""
WEEK_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["direct", "fanout", "topic"]


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; `limits` stand in a policy of the same name, in a policy's words."""

    name: str
    limits: Arguments
    quorum_limits: Arguments = field(default_factory=dict)
    """More limits where it is a quorum queue."""


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class User:
    """A user with the regular expressions of what it may configure, write and read."""

    name: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


EXCHANGES = (
    Exchange(EXCHANGE, "direct"),
    Exchange(DLX, "fanout"),
    Exchange(CONTROL, "fanout"),
    Exchange(EVENTS, "topic"),
)

BINDINGS = (
    Binding(EXCHANGE, REQUESTS, REQUESTS),
    Binding(DLX, EXPIRED, ""),
)

_CALLER_QUEUES = r"amq\.gen-.*|imagegen\.client\..*"

CALLER = "chat-backend"
DEFAULT_EXCHANGE = r"amq\.default"
"""In a pattern of rights."""

USERS = (
    User(
        "imagegen-consumer",
        configure=r"^amq\.gen-.*$",
        # Reply queues stand in `write` only so that their existence may be asked for (from 4.3.1).
        # `imagegen` and `imagegen.parking`: `imagegen parking` reads it and publishes again.
        write=rf"^(amq\.default|imagegen|imagegen\.events|imagegen\.control|{_CALLER_QUEUES})$",
        # The events are for the HTTP face, where it has no user of its own.
        read=r"^(imagegen\.(requests|expired|parking|control|events)|amq\.gen-.*)$",
    ),
    User(
        CALLER,
        configure=rf"^({_CALLER_QUEUES})$",
        write=rf"^(amq\.default|imagegen|imagegen\.control|{_CALLER_QUEUES})$",
        read=rf"^(imagegen\.events|{_CALLER_QUEUES})$",
    ),
    User(
        "imagegen-http",
        configure=rf"^({_CALLER_QUEUES})$",
        write=rf"^(imagegen|imagegen\.control|{_CALLER_QUEUES})$",
        read=rf"^(imagegen\.events|{_CALLER_QUEUES})$",
    ),
    # The tag shows it every queue; a right to read would let it take messages out.
    User("monitoring", configure="^$", write="^$", read="^$", tags=("monitoring",)),
)


HARDENED_USERS = tuple(
    replace(user, write=user.write.replace(f"{DEFAULT_EXCHANGE}|", ""))
    if user.name == CALLER
    else user
    for user in USERS
)
"""With these callers reach the requests through the exchange `imagegen` and nothing else: a right to
write to the default exchange reaches every queue of the vhost, others' reply queues among them."""


def users_of(*, hardened: bool = False) -> tuple[User, ...]:
    """Return the users with their rights by default, or those of the hardened profile."""
    return HARDENED_USERS if hardened else USERS


MAY_CANCEL_ANY = frozenset({"imagegen-consumer", "imagegen-http"})
"""Users of the service's own; others cancel the jobs that they sent."""


def queues(max_queue_size: int) -> tuple[Queue, ...]:
    """Return our queues, the requests bounded to `max_queue_size` waiting messages."""
    return (
        Queue(
            REQUESTS,
            {
                "max-length": max_queue_size,
                "overflow": "reject-publish",
                "message-ttl": 600_000,
                "dead-letter-exchange": DLX,
            },
            quorum_limits={"delivery-limit": 10},
        ),
        Queue(
            EXPIRED, {"max-length": 1000, "overflow": "drop-head"}, {"delivery-limit": NO_LIMIT}
        ),
        Queue(
            PARKING,
            {"max-length": 1000, "overflow": "drop-head", "message-ttl": WEEK_MS},
            {"delivery-limit": NO_LIMIT},
        ),
    )


OWN_OBJECTS = frozenset(
    {queue.name for queue in queues(1)} | {exchange.name for exchange in EXCHANGES}
)
"""Never a `reply_to`: an answer there would be taken for a request, or lost."""


def queue_type(*, cluster: bool) -> Literal["classic", "quorum"]:
    """Return the type: classic bounds are exact, quorum queues survive a node."""
    return "quorum" if cluster else "classic"


def declare_arguments(queue: Queue) -> Arguments:
    """Return a queue's arguments where it is declared without a policy: the limits are fixed then."""
    return {
        "x-queue-type": "classic",
        **{f"x-{key}": value for key, value in queue.limits.items()},
    }


def definitions(max_queue_size: int, *, cluster: bool = False) -> dict[str, Any]:
    """Return the broker's definitions, without users: what loads on RabbitMQ 3.10 to 4.3."""
    return {
        "vhosts": [{"name": VHOST}],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": VHOST,
                "type": exchange.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for exchange in EXCHANGES
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": VHOST,
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-queue-type": queue_type(cluster=cluster)},
            }
            for queue in queues(max_queue_size)
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": VHOST,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.routing_key,
                "arguments": {},
            }
            for binding in BINDINGS
        ],
        "policies": [policy(queue, cluster=cluster) for queue in queues(max_queue_size)],
    }


def policy(queue: Queue, *, cluster: bool = False) -> dict[str, Any]:
    """Return the policy that bounds a queue, as the management API and definitions write it."""
    limits = dict(queue.limits)
    if queue_type(cluster=cluster) == "quorum":
        limits |= queue.quorum_limits
    return {
        "name": queue.name,
        "vhost": VHOST,
        "pattern": f"^{re.escape(queue.name)}$",
        "apply-to": "queues",
        "priority": 10,
        "definition": limits,
    }


def users(*, hardened: bool = False) -> dict[str, Any]:
    """Return users and rights as definitions, without passwords."""
    chosen = users_of(hardened=hardened)
    return {
        "users": [{"name": user.name, "tags": list(user.tags)} for user in chosen],
        "permissions": [
            {
                "user": user.name,
                "vhost": VHOST,
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            }
            for user in chosen
        ],
    }


def live_bound(live: dict[str, Any]) -> int | None:
    """Return how many may wait in a live queue, as the management API tells it; None: no limit.

    Arguments and policy combine as the minimum.
    """
    arguments = live.get("arguments") or {}
    effective = live.get("effective_policy_definition") or {}
    found = (arguments.get("x-max-length"), effective.get("max-length"))
    return min((value for value in found if isinstance(value, int)), default=None)


def differences(queue: Queue, live: dict[str, Any]) -> list[str]:
    """Return in sentences where a live queue, as the management API tells it, is not the table's.

    Arguments and policy combine as the minimum, and both are live; either may hold a limit.
    """
    if not live.get("durable", False):
        return [f"{queue.name} is not durable: requests would not survive a restart."]
    arguments = live.get("arguments") or {}
    effective = live.get("effective_policy_definition") or {}
    sentences = []
    for key, wanted in queue.limits.items():
        found = [
            value
            for value in (arguments.get(f"x-{key}"), effective.get(key))
            if value is not None
        ]
        if isinstance(wanted, int):
            numbers = [value for value in found if isinstance(value, int)]
            actual: int | str | None = min(numbers) if numbers else None
        else:
            actual = found[0] if found else None
        if actual != wanted:
            told = "not set" if actual is None else f"{actual}"
            sentences.append(f"{queue.name}: {key} is {told}, the table says {wanted}.")
    return sentences
