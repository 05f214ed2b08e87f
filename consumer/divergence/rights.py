"""Users of the table that are missing, or may do more or less than it says."""

from collections.abc import Iterator, Sequence

from consumer import topology
from consumer.divergence.live import Difference, Live, Step, Thing, named
from consumer.management import quoted


def of_rights(live: Live, *, hardened: bool) -> Iterator[Difference]:
    """Compare each user of the table; the operator's own users may be as they are."""
    if live.users is None or live.permissions is None:
        return
    for user in topology.users_of(hardened=hardened):
        thing = f"user {user.name}"
        found = named(live.users, user.name)
        if found is None:
            yield Difference(thing, "missing", remedy=f"rabbitmqctl add_user {user.name}")
            continue
        if (tags := _tags(found)) != set(user.tags):
            told, should = (",".join(sorted(some)) or None for some in (tags, set(user.tags)))
            remedy = f"rabbitmqctl set_user_tags {user.name} {' '.join(user.tags)}".rstrip()
            yield Difference(thing, "tags", told, should, remedy=remedy)
        yield from _permissions(live, live.permissions, user)


def _permissions(
    live: Live, permissions: Sequence[Thing], user: topology.User
) -> Iterator[Difference]:
    mine = (p for p in permissions if (p["user"], p["vhost"]) == (user.name, live.vhost))
    found = next(mine, {})
    rights = {"configure": user.configure, "write": user.write, "read": user.read}
    path = f"permissions/{quoted(live.vhost)}/{quoted(user.name)}"
    step = Step("PUT", path, rights, f"rights of user {user.name} set")
    for right, pattern in rights.items():
        if found.get(right) != pattern:
            yield Difference(f"user {user.name}", right, found.get(right), pattern, step)


def _tags(user: Thing) -> set[str]:
    """Return a user's tags: a list, or before 3.9 words with commas."""
    tags = user.get("tags") or []
    return set(tags.split(",") if isinstance(tags, str) else tags)
