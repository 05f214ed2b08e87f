"""The management API as it is found: the broker's version, clock, alarms, queues and exchanges."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.divergence.live import Live
from consumer.divergence.policies import limits_in_force
from consumer.management import ManagementApi, ManagementError, may_see, quoted

HALF_SECOND = timedelta(seconds=0.5)
"""A Date header is cut to whole seconds."""


@dataclass(frozen=True, slots=True)
class Managed:
    """What the management API tells."""

    problem: str | None = None
    """Why it tells nothing."""
    version: str = ""
    ahead_s: float = 0.0
    """Seconds that the broker's clock is ahead of ours, give or take half a second."""
    alarms: tuple[str, ...] = ()
    queues: tuple[dict[str, Any], ...] = ()
    exchanges: tuple[dict[str, Any], ...] = ()
    bindings: tuple[dict[str, Any], ...] = ()


def look(url: str, vhost: str) -> Managed:
    """Ask the API for what can be compared."""
    try:
        return _look(ManagementApi(url), quoted(vhost))
    except ManagementError as error:
        return Managed(str(error))
    except (AttributeError, KeyError, TypeError) as error:
        return Managed(f"it answers otherwise than RabbitMQ ({type(error).__name__})")


def _look(api: ManagementApi, vhost: str) -> Managed:
    before = datetime.now(tz=UTC)
    overview = api.ask("GET", "overview")
    here = before + (datetime.now(tz=UTC) - before) / 2
    ahead = timedelta(0) if overview.at is None else overview.at + HALF_SECOND - here
    return Managed(
        version=str(overview.body.get("rabbitmq_version", "")),
        ahead_s=ahead.total_seconds(),
        alarms=tuple(_alarms(api)),
        queues=tuple(_queues(api, vhost)),
        exchanges=tuple(api.get(f"exchanges/{vhost}")),
        bindings=tuple(api.get(f"bindings/{vhost}")),
    )


def _queues(api: ManagementApi, vhost: str) -> Iterator[dict[str, Any]]:
    """Give the queues, each with what policies make of it.

    In its first seconds a broker has no statistics to tell that from: then its policies do.
    """
    queues = api.get(f"queues/{vhost}")
    live = Live(
        vhost,
        queues=queues,
        policies=may_see(api, f"policies/{vhost}"),
        operator_policies=may_see(api, f"operator-policies/{vhost}"),
    )
    for queue in queues:
        if "effective_policy_definition" in queue:
            yield queue
        else:
            limits = limits_in_force(live, queue["name"])
            yield {**queue, "effective_policy_definition": limits}


def _alarms(api: ManagementApi) -> Iterator[str]:
    """Give what the nodes are short of; nothing where our user may not see it."""
    try:
        nodes = api.get("nodes")
    except ManagementError as error:
        if error.denied:
            return
        raise
    for node in nodes:
        for alarm, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk")):
            if node.get(alarm):
                yield f"{node.get('name')} is short of {what}"
