"""The commands of control.sh."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from control import broker, compose_files, docker, place
from control.compose import Compose
from control.handover import become
from control.native import Native
from control.place import Facts, Place
from control.say import Failure, note, tell_failure
from control.service import Service
from control.settings import PREFIX, setting
from control.state import Clone
from control.supervisor import Supervisor
from control.torch_build import Variant
from control.venv import Extra, Venv

CLONE = Clone(Path(__file__).resolve().parent.parent)
FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130

USAGE = """\
usage: ./control.sh COMMAND

  image generate "PROMPT" [OPTIONS]  draw a picture; sets up and starts what is missing
                                     (image generate --help lists the options)
  image start                        start broker and service, wait until it is ready
  image stop                         finish the work in hand, stop service and private broker
  image restart                      stop the service, start it with the settings of now
  image status                       tell what runs; exit code 0 if ready, 3 if not
  image logs [-f]                    show the service's log; -f follows it
  image doctor [--json]              examine machine, model and broker; starts nothing
  image amqp-url                     print the URL with which a chat backend publishes
  image build [--variant VARIANT]    build the container image: cpu, cuda or rocm

  init                               make what is missing, start nothing
  setup [client|service|dev]         make the virtual environment for that use
  test [PYTEST OPTIONS]              run the tests

Where a Docker engine answers, the service runs in containers by docker-compose.yml, elsewhere on
this machine itself: IMAGE_GEN_RUN=compose or native decides it. setup and test are native.

Settings are IMAGE_GEN_* variables. These count here, too: IMAGE_GEN_AMQP_URL (use this broker,
start none), IMAGE_GEN_MODEL, IMAGE_GEN_PORT, IMAGE_GEN_VARIANT (cpu, cuda or rocm) and
IMAGE_GEN_TORCH_INDEX (where torch comes from)."""

Command = Callable[[list[str]], int]
Placed = Callable[[Place, list[str]], int]
Takes = tuple[str, ...] | None


def _placed(command: Placed) -> Command:
    return lambda rest: command(_place(), rest)


def _place() -> Place:
    """Return where the commands of `image` happen, the choice told where there was one."""
    wanted = setting("RUN")
    # Not a setting of the service, which refuses what it does not know.
    os.environ.pop(f"{PREFIX}RUN", None)
    facts = Facts(
        wanted=wanted,
        runs_natively=Service(CLONE).running(),
        broker_given=setting("AMQP_URL") is not None,
        engine=None if wanted == "native" else docker.look(),
        in_containers=compose_files.made(CLONE),
    )
    choice = place.choose(facts)
    if choice.reason:
        note(choice.reason)
    return Compose(CLONE) if choice.kind == "compose" else Native(CLONE)


def setup(arguments: list[str]) -> int:
    """Make the virtual environment for one use: the service, where none is named."""
    extra: Extra = next((name for name in get_args(Extra) if [name] == arguments), "service")
    with CLONE.locked():
        Venv(CLONE).ensure(extra, look_again=True)
    print(f".venv is ready ({extra}).")
    return 0


def test(arguments: list[str]) -> int:
    """Run the tests."""
    with CLONE.locked():
        Venv(CLONE).ensure("dev")
        # The tests start brokers of their own, whichever one the settings name.
        broker.install_server(CLONE)
    os.chdir(CLONE.root)
    return become([str(CLONE.python), "-m", "pytest", *arguments], {})


def supervise(arguments: list[str]) -> int:
    """Keep a program running: RECORD DRAIN_S PROGRAM... (`image start` does it with the service)."""
    record, drain_s, *command = arguments
    return Supervisor(command, Path(record), float(drain_s)).run()


PLACED: Mapping[tuple[str, ...], tuple[Placed, Takes]] = {
    ("image", "generate"): (lambda place, rest: place.generate(rest), None),
    ("image", "start"): (lambda place, _: place.start(), ()),
    ("image", "stop"): (lambda place, _: place.stop(), ()),
    ("image", "restart"): (lambda place, _: place.restart(), ()),
    ("image", "status"): (lambda place, _: place.status(), ()),
    ("image", "logs"): (lambda place, rest: place.logs(rest), ("-f",)),
    ("image", "doctor"): (lambda place, rest: place.doctor(rest), ("--json",)),
    ("image", "amqp-url"): (lambda place, _: place.amqp_url(), ()),
    ("image", "build"): (
        lambda place, rest: place.build(rest),
        tuple(f"--variant{by}{name}" for by in " =" for name in get_args(Variant)),
    ),
    ("init",): (lambda place, _: place.init(), ()),
}
"""Commands that mean the same in every place."""

COMMANDS: Mapping[tuple[str, ...], tuple[Command, Takes]] = {
    **{words: (_placed(command), takes) for words, (command, takes) in PLACED.items()},
    ("setup",): (setup, get_args(Extra)),
    ("test",): (test, None),
    ("supervise",): (supervise, None),
}
"""Each command with the options of which it takes one; None where it hands all of them on."""


def main(arguments: list[str]) -> int:
    """Run a command. Returns the exit code."""
    _forget_own_path()
    # Being asked to end is what Ctrl+C is: what was begun is left in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(arguments)
    except Failure as failure:
        tell_failure(failure)
        return FAILED
    except KeyboardInterrupt:
        note("Interrupted. The same command goes on where this one stopped.")
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["help"], ["-h"], ["--help"]):
        print(USAGE)
        return 0
    for words in (tuple(arguments[:2]), tuple(arguments[:1])):
        command, allowed = COMMANDS.get(words, (None, None))
        rest = arguments[len(words) :]
        if command is not None and _takes(allowed, rest):
            return command(rest)
    note(USAGE)
    return USAGE_ERROR


def _takes(allowed: tuple[str, ...] | None, rest: list[str]) -> bool:
    """Tell whether a command takes what stands after it: all, or one of some options at most."""
    return allowed is None or not rest or " ".join(rest) in allowed


def _forget_own_path() -> None:
    """Take the clone out of PYTHONPATH, so that programs started from here do not see it."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        entry for entry in path if entry != str(CLONE.root)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
