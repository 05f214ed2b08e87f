"""The commands at the topology: a live broker is compared with the table, and brought to it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from consumer.cli import EXIT_FAILED, EXIT_NOT_ALLOWED, EXIT_UNAVAILABLE, console_of
from consumer.divergence.compare import differences, unseen
from consumer.divergence.live import Difference, Live, Step, Wanted
from consumer.divergence.objects import way_in
from consumer.management import ManagementApi, ManagementError, may_see, quoted


@dataclass(frozen=True, slots=True)
class Aim:
    """Which broker is meant, and which table is wanted there."""

    management_url: str
    vhost: str
    max_queue_size: int
    cluster: bool | None
    """None: quorum where the queue of requests is a quorum queue."""
    hardened: bool | None
    """None: hardened where callers have no right to the default exchange."""

    def wanted(self, live: Live) -> Wanted:
        """Return the table that a live vhost is held against."""
        cluster = live.cluster if self.cluster is None else self.cluster
        hardened = live.hardened if self.hardened is None else self.hardened
        return Wanted(self.max_queue_size, cluster, hardened)


def show(aim: Aim, *, rights: bool, as_json: bool) -> int:
    """Show each difference. Returns the exit code: 0 where the broker could be compared."""
    code = check(aim, rights=rights, as_json=as_json)
    return 0 if code == EXIT_FAILED else code


def check(aim: Aim, *, rights: bool, as_json: bool) -> int:
    """Show each difference. Returns 1 where there are any."""

    def compare(api: ManagementApi) -> int:
        live = look(api, aim.vhost)
        found = differences(live, aim.wanted(live), rights=rights)
        _tell_unseen(live, rights=rights)
        _tell(found, as_json=as_json)
        return EXIT_FAILED if found else 0

    return _reaching(aim, compare)


def bring(aim: Aim, *, rights: bool, dry_run: bool) -> int:
    """Bring the broker to the table. Returns 1 where it is not there then."""

    def mend(api: ManagementApi) -> int:
        live = look(api, aim.vhost)
        _tell_unseen(live, rights=rights)
        found = differences(live, aim.wanted(live), rights=rights)
        if dry_run:
            return _tell_plan(found)
        if not live.there:
            live = _make_vhost(api, live)
            found = differences(live, aim.wanted(live), rights=rights)
        refused = [step for step in _steps(found) if not _take(api, step)]
        left = differences(look(api, aim.vhost), aim.wanted(live), rights=rights)
        return _tell_left(left, refused)

    return _reaching(aim, mend)


# ---------------------------------------------------------------- the broker


def look(api: ManagementApi, vhost: str) -> Live:
    """Ask for all that can be compared. Raises ManagementError."""
    name = quoted(vhost)
    me = str(api.get("whoami")["name"])
    try:
        queues = api.get(f"queues/{name}")
    except ManagementError as error:
        if error.status != 404:
            raise
        users, permissions = may_see(api, "users"), may_see(api, "permissions")
        return Live(vhost, there=False, me=me, users=users, permissions=permissions)
    return Live(
        vhost,
        me=me,
        queues=queues,
        exchanges=api.get(f"exchanges/{name}"),
        bindings=api.get(f"bindings/{name}"),
        policies=may_see(api, f"policies/{name}"),
        operator_policies=may_see(api, f"operator-policies/{name}"),
        users=may_see(api, "users"),
        permissions=may_see(api, "permissions"),
    )


def _make_vhost(api: ManagementApi, live: Live) -> Live:
    """Make the vhost, and let the API's user in, which declares the rest. Raises ManagementError."""
    (missing,) = differences(live, Wanted(1), rights=False)
    for step in (*_steps([missing]), way_in(live)):
        api.ask(step.method, step.path, step.body)
        _say(step.done)
    return look(api, live.vhost)


def _take(api: ManagementApi, step: Step) -> bool:
    try:
        api.ask(step.method, step.path, step.body)
    except ManagementError as error:
        if error.status is None:
            raise
        _say(f"not so: {step.done}: {error}")
        return False
    _say(step.done)
    return True


def _steps(found: Sequence[Difference]) -> list[Step]:
    """Return what mends them, each once: several differences may be of one policy."""
    steps: list[Step] = []
    for difference in found:
        if difference.step is not None and difference.step not in steps:
            steps.append(difference.step)
    return steps


def _reaching(aim: Aim, work: Callable[[ManagementApi], int]) -> int:
    try:
        return work(ManagementApi(aim.management_url))
    except ManagementError as error:
        told = "does not let this user do that" if error.denied else "cannot be reached"
        _stderr().print(f"The management API {told}: {error}.", soft_wrap=True)
        return EXIT_NOT_ALLOWED if error.denied else EXIT_UNAVAILABLE
    except (AttributeError, KeyError, TypeError) as error:
        problem = f"That is no management API of RabbitMQ ({type(error).__name__}: {error})."
        _stderr().print(problem, soft_wrap=True)
        return EXIT_UNAVAILABLE


# ---------------------------------------------------------------- words


def _tell(found: Sequence[Difference], *, as_json: bool) -> None:
    for difference in found:
        if as_json:
            print(json.dumps(_facts(difference)))  # noqa: T201
        else:
            _say(difference.sentence)
    if not found and not as_json:
        _say("The broker is as the table says.")


def _facts(difference: Difference) -> dict[str, Any]:
    return {
        "thing": difference.thing,
        "aspect": difference.aspect,
        "found": difference.found,
        "wanted": difference.wanted,
        "applies": difference.step is not None,
        "remedy": difference.remedy or None,
    }


def _tell_plan(found: Sequence[Difference]) -> int:
    for difference in found:
        does = difference.step.done if difference.step else f"you: {difference.remedy}"
        _say(f"{difference.sentence} -> {does}")
    if not found:
        _say("The broker is as the table says.")
    return EXIT_FAILED if found else 0


def _tell_left(left: Sequence[Difference], refused: Sequence[Step]) -> int:
    for difference in left:
        if difference.step is None:
            _say(f"cannot: {difference.sentence} -> {difference.remedy}")
        elif difference.step not in refused:
            _say(f"still: {difference.sentence}")
    if not left:
        _say("The broker is as the table says.")
    return EXIT_FAILED if left else 0


def _tell_unseen(live: Live, *, rights: bool) -> None:
    for sentence in unseen(live, rights=rights):
        _stderr().print(f"Not compared: {sentence}.", soft_wrap=True)


def _say(sentence: str) -> None:
    console_of(stderr=False).print(sentence, soft_wrap=True)


def _stderr() -> Console:
    return console_of(stderr=True)
