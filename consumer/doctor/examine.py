"""The examination: which look feeds which verdict, in the order in which they are told."""

import contextlib
import os
from collections.abc import Callable, Iterator

from yarl import URL

from consumer import topology
from consumer.doctor import (
    broker,
    broker_verdicts,
    gpu_verdicts,
    machine,
    management,
    model,
    model_verdicts,
    place_verdicts,
    store,
    torch_build,
    versions,
)
from consumer.doctor.asking import Asked, NoAnswerError
from consumer.doctor.verdict import Verdict, fail
from consumer.settings import Settings
from imagegen_client.nodes import nodes_in

LOOK_S = 20.0
BROKER_S = 30.0
"""For the way to it, each of its answers having a limit of its own."""
TORCH_S = torch_build.LIMIT_S + 5.0

Judge = Callable[[], Verdict]

_REMEDIES = {
    "torch": "the driver may hang: dmesg, nvidia-smi or rocminfo; a restart of the machine helps",
    "broker": "check the network on the way to it, and rabbitmqctl status",
}
_REMEDY = "run it again; if it stays so, this part of the machine does not answer"


def examine(settings: Settings) -> Iterator[Verdict]:
    """Look at everything at once, and give the verdicts in their order as they come."""
    looks = _Looks(settings)
    yield place_verdicts.judge_names(list(os.environ), Settings.model_fields)
    for check, judge in (*_of_machine(looks), *_of_files(looks), *_of_broker(looks)):
        yield _judged(check, judge)


def examine_machine() -> Iterator[Verdict]:
    """Look at what needs no settings."""
    about, packages = Asked(machine.cards, LOOK_S), Asked(versions.look, LOOK_S)
    torch = Asked(torch_build.ask, TORCH_S)
    yield _judged("versions", lambda: model_verdicts.judge_versions(packages.answer()))
    yield _judged("torch", lambda: _judge_torch(torch, about, "auto"))
    yield _judged("devices", lambda: gpu_verdicts.judge_devices(about.answer(), "auto"))


def _judged(check: str, judge: Judge) -> Verdict:
    try:
        return judge()
    except NoAnswerError as silence:
        return fail(
            check, f"It could not be examined: {silence}.", _REMEDIES.get(check, _REMEDY)
        )
    except Exception as defect:  # noqa: BLE001 - the other checks are told all the same
        told = f"The doctor broke on it: {type(defect).__name__}: {defect}"
        return fail(check, told, "a defect of the doctor: report it with this line")


class _Looks:
    """Everything that is looked at, begun at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        url = settings.amqp_url.get_secret_value()
        http, managed = settings.http_amqp_url, settings.management_url
        most = settings.max_reply_bytes
        vhost = URL(nodes_in(url)[0]).path[1:] or "/"
        self.packages = Asked(versions.look, LOOK_S)
        self.torch = Asked(torch_build.ask, TORCH_S)
        self.cards = Asked(machine.cards, LOOK_S)
        self.model = Asked(lambda: model.look(settings.model, settings.model_revision), LOOK_S)
        self.store = Asked(lambda: store.look(settings.store), LOOK_S)
        self.broker = Asked(lambda: broker.look(url, "consumer", most), BROKER_S)
        # Where the HTTP face has no user of its own, ours has to do its work as well.
        http_url = url if http is None else http.get_secret_value()
        self.http_user = Asked(lambda: broker.look(http_url, "http", most), BROKER_S)
        self.managed = (
            None
            if managed is None
            else Asked(lambda: management.look(managed.get_secret_value(), vhost), LOOK_S)
        )
        self.port = Asked(lambda: machine.port(settings.host, settings.port), LOOK_S)

    def components(self) -> dict[str, int] | None:
        """Return the bytes of the model's parts; {} for the built-in, None where unknown."""
        found = self.model.answer()
        if found.source == "builtin":
            return {}
        return gpu_verdicts.KNOWN_COMPONENTS.get(self.settings.model) or found.weights or None


def _of_machine(looks: _Looks) -> Iterator[tuple[str, Judge]]:
    device, memory = looks.settings.device, looks.settings.memory
    yield "versions", lambda: model_verdicts.judge_versions(looks.packages.answer())
    yield "torch", lambda: _judge_torch(looks.torch, looks.cards, device)
    yield "devices", lambda: gpu_verdicts.judge_devices(looks.cards.answer(), device)
    yield (
        "memory",
        lambda: gpu_verdicts.judge_memory(
            looks.torch.answer(), looks.components(), machine.memory_bytes(), device, memory
        ),
    )


def _judge_torch(
    torch: Asked[torch_build.TorchBuild | torch_build.NoTorch],
    cards: Asked[machine.Cards],
    device: str,
) -> Verdict:
    python = machine.python_version()
    return gpu_verdicts.judge_torch(torch.answer(), cards.answer(), device, python)


def _of_files(looks: _Looks) -> Iterator[tuple[str, Judge]]:
    settings = looks.settings
    yield "model", lambda: model_verdicts.judge_model(looks.model.answer(), settings.model)
    yield "cache", lambda: model_verdicts.judge_cache(looks.model.answer())
    yield (
        "store",
        lambda: model_verdicts.judge_store(looks.store.answer(), settings.result_max_bytes),
    )
    yield "port", lambda: place_verdicts.judge_port(looks.port.answer())


def _of_broker(looks: _Looks) -> Iterator[tuple[str, Judge]]:
    settings, found, http_user = looks.settings, looks.broker, looks.http_user
    yield "broker", lambda: broker_verdicts.judge_broker(found.answer())
    yield "rights", lambda: broker_verdicts.judge_rights(found.answer())
    own = settings.http_amqp_url is not None
    yield "http_user", lambda: _judge_user(http_user.answer(), own=own)
    yield "topology", lambda: _judge_topology(looks)
    if looks.managed is not None:
        managed = looks.managed
        yield "alarms", lambda: broker_verdicts.judge_alarms(managed.answer())
    yield (
        "message_size",
        lambda: broker_verdicts.judge_message_size(found.answer(), settings.max_reply_bytes),
    )
    yield "sharing", lambda: broker_verdicts.judge_sharing(found.answer(), settings.store)
    yield "clock", lambda: place_verdicts.judge_clock(_clocks(looks))


def _judge_user(found: broker.BrokerFound, *, own: bool) -> Verdict:
    """Judge who does the work of the HTTP face; what shuts everybody out is told once."""
    if own and found.lock is not None:
        return broker_verdicts.judge_broker(found, "http_user")
    return broker_verdicts.judge_rights(found, "http_user")


def _judge_topology(looks: _Looks) -> Verdict:
    settings = looks.settings
    return broker_verdicts.judge_topology(
        looks.broker.answer(),
        looks.managed.answer() if looks.managed else None,
        topology.queues(settings.max_queue_size),
        settings.topology,
    )


def _clocks(looks: _Looks) -> dict[str, float]:
    """Return how far the clocks of others are ahead of ours, in seconds."""
    clocks = {}
    # Who does not answer has a check of its own.
    with contextlib.suppress(NoAnswerError):
        managed = looks.managed.answer() if looks.managed else None
        if managed is not None and managed.problem is None:
            clocks["broker"] = managed.ahead_s
    with contextlib.suppress(NoAnswerError):
        ahead = looks.store.answer().ahead_s
        if ahead is not None:
            clocks["store"] = ahead
    return clocks
