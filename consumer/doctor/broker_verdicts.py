"""The verdicts on the broker: it lets us in, lets us work, and is set up as the table says. Pure."""

import re

from consumer.doctor.broker import BrokerFound
from consumer.doctor.management import Managed
from consumer.doctor.verdict import Verdict, fail, ok, warn
from consumer.topology import BINDINGS, EXCHANGES, USERS, Binding, Exchange, Queue, differences

OLDEST, NEWEST = (3, 10), (4, 3)
"""Releases of RabbitMQ that our definitions load on."""
RELOAD = "load rabbitmq/definitions.json into the broker"
_LIMITS_BYTES = {3: 128 << 20}
DEFAULT_LIMIT_BYTES = 16 << 20
"""Of a message from RabbitMQ 4.0 on, where the operator set no other."""

_LOCKS = {
    "unreachable": (
        "No broker answers on {address}: {problem}.",
        "start it, or correct IMAGE_GEN_AMQP_URL; ./control.sh image start brings one",
    ),
    "silent": (
        "{address} takes connections and says nothing.",
        "check that it is a RabbitMQ, and that amqps:// is used where it wants TLS",
    ),
    "no_user": (
        "{address} does not know {user}, or not this password.",
        "correct user and password of the URL, or add the user: rabbitmqctl add_user",
    ),
    "no_vhost": (
        "{user} may not use the vhost {vhost}, or there is none.",
        "rabbitmqctl add_vhost {vhost}, then give {user} its rights",
    ),
    "other": (
        "{address} did not let us in: {problem}.",
        "check that the scheme (amqp, amqps), port and certificate are right",
    ),
}


def judge_broker(found: BrokerFound, check: str = "broker") -> Verdict:
    """It is reached, and of a release that we know."""
    if found.lock is not None:
        finding, remedy = _LOCKS[found.lock]
        problem = found.problem.rstrip(".")
        told = {
            "address": found.address,
            "user": found.user,
            "vhost": found.vhost,
            "problem": problem,
        }
        return fail(check, finding.format(**told), remedy.format(**told))
    told_version = f"RabbitMQ {found.version} on {found.address}, vhost {found.vhost}"
    release = _release(found.version)
    if release < OLDEST:
        return fail(check, f"{told_version} is too old.", "upgrade it to 3.10 or later")
    if release[:2] > NEWEST:
        return warn(
            check, f"{told_version} was not tried.", "see to docs/reliability.md, or use 4.3"
        )
    if found.away:
        finding = f"{told_version}; nobody answers at {', '.join(found.away)}."
        return warn(check, finding, "start these nodes, or take them out of the URL")
    return ok(check, f"{told_version}.")


def judge_rights(found: BrokerFound, check: str = "rights") -> Verdict:
    """Our user may do all that the service does."""
    denied = [what for what, may in found.rights.items() if may == "no"]
    unknown = [what for what, may in found.rights.items() if may == "unknown"]
    if denied:
        return fail(check, f"{found.user} may not {', '.join(denied)}.", _grant(found))
    if unknown:
        remedy = "see whether the broker is short of memory or disk: rabbitmqctl status"
        return warn(check, f"It did not say whether we may {', '.join(unknown)}.", remedy)
    if not found.rights:
        return warn(check, "Unknown without a broker.", "see `broker`")
    return ok(check, f"{found.user} may do what it has to.")


def _grant(found: BrokerFound) -> str:
    """Return the command that gives a user the rights of the table."""
    ours = next((user for user in USERS if user.name == found.user), USERS[0])
    patterns = " ".join(f"'{right}'" for right in (ours.configure, ours.write, ours.read))
    return f"rabbitmqctl set_permissions -p {found.vhost} {found.user} {patterns}"


def judge_topology(
    found: BrokerFound, managed: Managed | None, queues: tuple[Queue, ...], mode: str
) -> Verdict:
    """Exchanges, queues, bindings and limits are those of the table."""
    if managed is None or managed.problem is not None:
        return _judge_unseen(found, managed)
    lacks = [*_lacking(managed, queues)]
    differing = [
        sentence
        for queue in queues
        for live in managed.queues
        if live.get("name") == queue.name
        for sentence in _differing(queue, live)
    ]
    if not lacks and not differing:
        return ok("topology", "It is as the table says, limits included.")
    told = " ".join((*lacks, *differing))
    if mode == "check" or any("dead-letter" in s or "overflow" in s for s in differing):
        return fail("topology", told, RELOAD)
    remedy = RELOAD if differing or mode != "auto" else f"start the service, or {RELOAD}"
    return warn("topology", told, remedy)


def _judge_unseen(found: BrokerFound, managed: Managed | None) -> Verdict:
    missing = [what for what, may in found.rights.items() if may == "missing"]
    if missing:
        lacks = ", ".join(what.split()[1] for what in missing)
        return warn("topology", f"Missing: {lacks}.", f"start the service, or {RELOAD}")
    if found.lock is not None:
        return warn("topology", "Unknown without a broker.", "see `broker`")
    if managed is None:
        finding = "All is there; the limits were not compared."
        return warn("topology", finding, "set IMAGE_GEN_MANAGEMENT_URL")
    finding = f"The management API tells nothing: {managed.problem}."
    return warn("topology", finding, "correct IMAGE_GEN_MANAGEMENT_URL, or give its user a tag")


def _lacking(managed: Managed, queues: tuple[Queue, ...]) -> list[str]:
    there = {str(live.get("name")) for live in managed.queues}
    return [
        *(f"{queue.name} is missing." for queue in queues if queue.name not in there),
        *(sentence for exchange in EXCHANGES for sentence in _of_exchange(exchange, managed)),
        *(
            f"{binding.queue} is not bound to {binding.exchange}."
            for binding in BINDINGS
            if not _bound(binding, managed)
        ),
    ]


def _of_exchange(exchange: Exchange, managed: Managed) -> list[str]:
    live = next((live for live in managed.exchanges if live.get("name") == exchange.name), None)
    if live is None:
        return [f"{exchange.name} is missing."]
    if live.get("type") != exchange.type:
        return [
            f"{exchange.name} is of type {live.get('type')}, the table says {exchange.type}."
        ]
    return [] if live.get("durable") else [f"{exchange.name} is not durable."]


def _bound(binding: Binding, managed: Managed) -> bool:
    return any(
        (live.get("source"), live.get("destination"), live.get("routing_key"))
        == (binding.exchange, binding.queue, binding.routing_key)
        for live in managed.bindings
    )


def _differing(queue: Queue, live: dict[str, object]) -> list[str]:
    kind = live.get("type")
    if kind not in {"classic", "quorum"}:
        return [f"{queue.name} is of type {kind}, the table says classic or quorum."]
    limits = {**queue.limits, **(queue.quorum_limits if kind == "quorum" else {})}
    return differences(Queue(queue.name, limits), live)


def judge_alarms(managed: Managed) -> Verdict:
    """The broker takes what is published."""
    if managed.problem is not None:
        return warn("alarms", "Unknown without the management API.", "see `topology`")
    if managed.alarms:
        remedy = "make room: until then the broker takes no answers"
        return fail("alarms", f"{'; '.join(managed.alarms)}.", remedy)
    return ok("alarms", "The broker has memory and disk.")


def judge_message_size(found: BrokerFound, max_reply_bytes: int) -> Verdict:
    """The broker takes a reply of the size that we send at most."""
    told = f"{max_reply_bytes / (1 << 20):.1f} MiB"
    if found.largest is not None:
        allowed = re.search(r"max size (\d+)", found.largest)
        most = f"IMAGE_GEN_MAX_REPLY_BYTES={allowed[1]}" if allowed else "a smaller maximum"
        return fail(
            "message_size",
            f"The broker refuses a reply of {told}.",
            f"raise max_message_size in rabbitmq.conf, or set {most}",
        )
    if found.lock is not None:
        return warn("message_size", "Unknown without a broker.", "see `broker`")
    limit = _LIMITS_BYTES.get(_release(found.version)[0], DEFAULT_LIMIT_BYTES)
    default = f"{limit >> 20} MiB is the default of {found.version}"
    return ok("message_size", f"A message of {told} is not too large ({default}).")


def judge_sharing(found: BrokerFound, store: str) -> Verdict:
    """Several consumers of one queue have one store."""
    others = found.consumers
    if others is None:
        return warn("sharing", "Nobody tells who else reads the queue.", "see `broker`")
    if others > 1 and store.startswith("sqlite"):
        return warn(
            "sharing",
            f"{others} consumers read the queue, and our store is a file.",
            "give all of them one IMAGE_GEN_STORE_URL=postgresql://...",
        )
    return ok("sharing", f"{others} consumer{'' if others == 1 else 's'} of the queue.")


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; none of it is too old where it tells none."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) or NEWEST
