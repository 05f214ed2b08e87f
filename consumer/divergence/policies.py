"""Policies that are missing or another, and those of others that win over ours."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from consumer.divergence.live import Difference, Live, Step, Thing, body_of, named, type_of
from consumer.management import quoted
from consumer.topology import REQUESTS, live_bound

_APPLIES = {"queues", "all", "classic_queues", "quorum_queues"}


def of_policies(live: Live, wanted: Sequence[Thing]) -> Iterator[Difference]:
    """Compare the policies by value, or what is in force where they may not be read."""
    for policy in wanted:
        if live.policies is None:
            yield from _in_force(live, policy)
        else:
            yield from _policy(live, live.policies, policy)
            yield from _overruled(live, live.policies, policy)
        yield from _operated(live, policy)


def bound_in_force(live: Live) -> int | None:
    """Return how many requests may wait; None: no limit. Policies tell it sooner than the queue.

    Argument, policy and operator policy combine as the minimum.
    """
    queue = named(live.queues, REQUESTS) or {}
    return live_bound({**queue, "effective_policy_definition": limits_in_force(live, REQUESTS)})


def limits_in_force(live: Live, queue: str) -> Thing:
    """Return what policy and operator policy make of a queue: of two numbers the lower one."""
    if live.policies is None:
        told = (named(live.queues, queue) or {}).get("effective_policy_definition")
        return dict(told or {})
    ours, operators = (
        max(_matching(some, live, queue), key=lambda one: int(one["priority"]), default={})
        for some in (live.policies, live.operator_policies or ())
    )
    limits: Thing = dict(ours.get("definition", {}))
    for key, value in operators.get("definition", {}).items():
        limits[key] = _lower(limits.get(key), value)
    return limits


def _policy(live: Live, policies: Sequence[Thing], wanted: Thing) -> Iterator[Difference]:
    thing = f"policy {wanted['name']}"
    found = named(policies, wanted["name"])
    step, remedy = _set(live, wanted)
    if found is None:
        yield Difference(thing, "missing", step=step, remedy=remedy)
        return
    for aspect in ("pattern", "apply-to", "priority"):
        if found.get(aspect) != wanted[aspect]:
            yield Difference(thing, aspect, found.get(aspect), wanted[aspect], step, remedy)
    yield from _limits(thing, found["definition"], wanted["definition"], (step, remedy))


def _limits(
    thing: str, found: Thing, wanted: Thing, mend: tuple[Step | None, str]
) -> Iterator[Difference]:
    for key in [*wanted, *sorted(found.keys() - wanted.keys())]:
        if found.get(key) != wanted.get(key):
            yield Difference(thing, key, found.get(key), wanted.get(key), *mend)


def _in_force(live: Live, wanted: Thing) -> Iterator[Difference]:
    """Compare what the broker tells of a queue, where its policies may not be read."""
    queue = named(live.queues, wanted["name"])
    # Right after a start the API has no statistics yet, policies included.
    if queue is not None and "effective_policy_definition" in queue:
        found = queue["effective_policy_definition"] or {}
        thing = f"queue {wanted['name']}"
        yield from _limits(thing, found, wanted["definition"], _set(live, wanted))


def _set(live: Live, wanted: Thing) -> tuple[Step | None, str]:
    """Return the step that sets a policy; or the remedy, where messages would be dropped by it."""
    definition = wanted["definition"]
    queue = named(live.queues, wanted["name"]) or {}
    over = int(queue.get("messages_ready") or 0) - int(definition["max-length"])
    if definition["overflow"] == "drop-head" and over > 0:
        return None, f"{over} messages above the limit would be dropped: take them out first"
    path = f"policies/{quoted(live.vhost)}/{quoted(wanted['name'])}"
    return Step("PUT", path, body_of(wanted), f"policy {wanted['name']} set"), ""


def _overruled(live: Live, policies: Sequence[Thing], wanted: Thing) -> Iterator[Difference]:
    """Find the policy that wins over ours: one only applies, that of the highest priority."""
    for other in _matching(policies, live, wanted["name"]):
        if other["name"] != wanted["name"] and other["priority"] >= wanted["priority"]:
            yield Difference(
                f"queue {wanted['name']}",
                "policy in force",
                f"{other['name']} (priority {other['priority']})",
                f"{wanted['name']} (priority {wanted['priority']})",
                remedy=f"lower the priority of {other['name']}, or narrow its pattern",
            )


def _operated(live: Live, wanted: Thing) -> Iterator[Difference]:
    """Find what an operator policy changes: of two numbers the lower, of two words its own."""
    matching = sorted(
        _matching(live.operator_policies or (), live, wanted["name"]),
        key=lambda policy: -int(policy["priority"]),
    )
    for policy in matching[:1]:
        for key, value in policy["definition"].items():
            ours = wanted["definition"].get(key)
            if (result := _lower(ours, value)) != ours:
                yield Difference(
                    f"queue {wanted['name']}",
                    f"{key} by the operator policy {policy['name']}",
                    result,
                    ours,
                    remedy=f"raise or clear the operator policy {policy['name']}",
                )


def _lower(ours: Any, operators: Any) -> Any:
    if isinstance(ours, int) and isinstance(operators, int):
        return min(ours, operators)
    return operators


def _matching(policies: Iterable[Thing], live: Live, queue: str) -> Iterator[Thing]:
    kind = type_of(named(live.queues, queue) or {})
    for policy in policies:
        applies = policy["apply-to"]
        fits = applies in _APPLIES and applies in {"queues", "all", f"{kind}_queues"}
        if fits and _matches(policy["pattern"], queue):
            yield policy


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # one of Erlang's that is none of ours
        return False
