"""Exchanges, queues and bindings that are missing, or of another kind; and the vhost itself."""

from collections.abc import Iterator, Sequence

from consumer.divergence.live import Difference, Live, Step, Thing, body_of, named, type_of
from consumer.management import quoted

ANOTHER_QUEUE = (
    "unbind it, have the consumers empty it, delete it where it is empty and unused, then"
    " `imagegen topology apply` (docs/broker.md)"
)
"""What is done about a queue whose kind cannot be changed: nothing that waits is lost by it."""
ANOTHER_EXCHANGE = "delete it while nobody publishes, then `imagegen topology apply`"
_SETTLED = {"x-queue-type", "x-quorum-initial-group-size", "x-queue-leader-locator"}
"""Arguments that can be nothing else, and fix no limit."""


def of_vhost(live: Live) -> Difference:
    """Return that the vhost is missing, which leaves nothing to compare."""
    path = f"vhosts/{quoted(live.vhost)}"
    step = Step("PUT", path, {}, f"vhost {live.vhost} made")
    return Difference(f"vhost {live.vhost}", "missing", step=step)


def way_in(live: Live) -> Step:
    """Return the step that lets the API's user declare things on a vhost that it made."""
    path = f"permissions/{quoted(live.vhost)}/{quoted(live.me)}"
    body = {"configure": ".*", "write": ".*", "read": ".*"}
    return Step("PUT", path, body, f"user {live.me} may do everything on vhost {live.vhost}")


def of_exchange(live: Live, wanted: Thing) -> Iterator[Difference]:
    """Compare an exchange."""
    thing = f"exchange {wanted['name']}"
    found = named(live.exchanges, wanted["name"])
    if found is None:
        path = f"exchanges/{quoted(live.vhost)}/{quoted(wanted['name'])}"
        yield Difference(thing, "missing", step=_declare(path, wanted, thing))
        return
    for aspect in ("type", "durable", "internal", "auto_delete"):
        if found.get(aspect) != wanted[aspect]:
            yield Difference(
                thing, aspect, found.get(aspect), wanted[aspect], remedy=ANOTHER_EXCHANGE
            )


def of_queue(live: Live, wanted: Thing) -> Iterator[Difference]:
    """Compare a queue; an argument that is a limit cannot be raised by any policy."""
    thing = f"queue {wanted['name']}"
    found = named(live.queues, wanted["name"])
    if found is None:
        path = f"queues/{quoted(live.vhost)}/{quoted(wanted['name'])}"
        yield Difference(thing, "missing", step=_declare(path, wanted, thing))
        return
    arguments = found.get("arguments") or {}
    pairs = [
        ("type", type_of(found), wanted["arguments"]["x-queue-type"]),
        ("durable", found.get("durable"), True),
        ("auto_delete", found.get("auto_delete"), False),
        *(
            (f"argument {name}", arguments[name], None)
            for name in sorted(arguments.keys() - _SETTLED)
        ),
    ]
    for aspect, is_so, should in pairs:
        if is_so != should:
            yield Difference(thing, aspect, is_so, should, remedy=ANOTHER_QUEUE)


def _declare(path: str, wanted: Thing, thing: str) -> Step:
    return Step("PUT", path, body_of(wanted), f"{thing} declared")


def of_bindings(live: Live, wanted: Sequence[Thing]) -> Iterator[Difference]:
    """Compare the bindings of our exchanges and queues; other bindings are nobody's business."""
    found = {_ends(binding) for binding in live.bindings if binding.get("source")}
    table = {_ends(binding): binding for binding in wanted}
    for ends, binding in table.items():
        if ends not in found:
            yield Difference(_binding(ends), "missing", step=_bind(live.vhost, binding))
    sources = {ends[0] for ends in table}
    targets = {ends[2] for ends in table}
    for ends in sorted(found - table.keys()):
        if ends[0] in sources or (ends[1] == "queue" and ends[2] in targets):
            # Copies of requests, prompts included, go elsewhere; or others' messages come in.
            yield Difference(
                _binding(ends), "not in the table", remedy="unbind it if nobody needs it"
            )


def _ends(binding: Thing) -> tuple[str, str, str, str]:
    """Return source, kind and name of the destination, and key."""
    return (
        str(binding["source"]),
        str(binding["destination_type"]),
        str(binding["destination"]),
        str(binding["routing_key"]),
    )


def _binding(ends: tuple[str, str, str, str]) -> str:
    source, _, destination, key = ends
    return f"binding {source} -> {destination}" + (f" ({key})" if key else "")


def _bind(vhost: str, binding: Thing) -> Step:
    source, _, destination, key = ends = _ends(binding)
    path = f"bindings/{quoted(vhost)}/e/{quoted(source)}/q/{quoted(destination)}"
    body = {"routing_key": key, "arguments": {}}
    return Step("POST", path, body, f"{_binding(ends)} declared")
