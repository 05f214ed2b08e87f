"""The commands of control.sh."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from control import broker
from control.broker import Broker
from control.say import Failure, note, tell_failure
from control.service import Service
from control.state import Clone
from control.supervisor import Supervisor
from control.venv import Extra, Venv

CLONE = Clone(Path(__file__).resolve().parent.parent)
FAILED, USAGE_ERROR, NOT_READY, INTERRUPTED = 1, 2, 3, 130

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

  init                               make what is missing, start nothing
  setup [client|service|dev]         make the virtual environment for that use
  test [PYTEST OPTIONS]              run the tests

Settings are IMAGE_GEN_* variables. These count here, too: IMAGE_GEN_AMQP_URL (use this broker,
start none), IMAGE_GEN_MODEL, IMAGE_GEN_PORT, IMAGE_GEN_VARIANT (cpu, cuda or rocm) and
IMAGE_GEN_TORCH_INDEX (where torch comes from)."""

Command = Callable[[list[str]], int]


def generate(arguments: list[str]) -> int:
    """Draw a picture; where everything is up, only look and hand over."""
    chosen = broker.choose(CLONE)
    if {"-h", "--help"} & set(arguments):
        with CLONE.locked():
            Venv(CLONE).ensure("client")
    else:
        _bring_up(chosen)
    given = any(argument.startswith(("-o", "--output")) for argument in arguments)
    output = [] if given else ["-o", str(CLONE.pictures)]
    program = CLONE.venv / "bin" / "imagegen"
    return _become([str(program), "generate", *output, *arguments], chosen.caller_settings())


def start(_: list[str]) -> int:
    """Start broker and service."""
    _bring_up(broker.choose(CLONE))
    print(f"The service is ready: {Service(CLONE).url}")
    return 0


def stop(_: list[str]) -> int:
    """Stop the service, then the private broker."""
    with CLONE.locked():
        Service(CLONE).stop()
        broker.choose(CLONE).stop()
    print("The service is stopped.")
    return 0


def restart(arguments: list[str]) -> int:
    """Stop the service and start it again; the broker goes on."""
    with CLONE.locked():
        Service(CLONE).stop()
    return start(arguments)


def status(_: list[str]) -> int:
    """Tell what runs."""
    service = Service(CLONE)
    print(f"service  {service.describe()}")
    print(f"model    {service.model() or 'the default'}")
    print(f"broker   {broker.choose(CLONE).describe()}")
    return 0 if service.ready() else NOT_READY


def logs(arguments: list[str]) -> int:
    """Show the end of the service's log."""
    log = Service(CLONE).log
    if not log.exists():
        raise Failure("There is no log yet.", "Start the service: ./control.sh image start")
    return _become(["tail", "-n", "200", *(["-F"] if arguments else []), str(log)], {})


def doctor(arguments: list[str]) -> int:
    """Examine what the service needs, with the settings that it would get."""
    venv = Venv(CLONE)
    with CLONE.locked():
        venv.ensure("service")
        settings = Service(CLONE).settings(broker.choose(CLONE), venv.variant)
    program = CLONE.venv / "bin" / "imagegen"
    return _become([str(program), "doctor", *arguments], settings)


def amqp_url(_: list[str]) -> int:
    """Print the URL of a chat backend."""
    with CLONE.locked():
        print(broker.choose(CLONE).chat_url())
    return 0


def init(_: list[str]) -> int:
    """Make what is missing."""
    chosen = broker.choose(CLONE)
    with CLONE.locked():
        Venv(CLONE).ensure("service", look_again=True)
        chosen.ensure_installed(CLONE)
        chosen.chat_url()
    print('All is there. Draw: ./control.sh image generate "A sunset over mountains"')
    return 0


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
    return _become([str(CLONE.python), "-m", "pytest", *arguments], {})


def supervise(arguments: list[str]) -> int:
    """Keep a program running: RECORD DRAIN_S PROGRAM... (`image start` does it with the service)."""
    record, drain_s, *command = arguments
    return Supervisor(command, Path(record), float(drain_s)).run()


COMMANDS: Mapping[tuple[str, ...], tuple[Command, tuple[str, ...] | None]] = {
    ("image", "generate"): (generate, None),
    ("image", "start"): (start, ()),
    ("image", "stop"): (stop, ()),
    ("image", "restart"): (restart, ()),
    ("image", "status"): (status, ()),
    ("image", "logs"): (logs, ("-f",)),
    ("image", "doctor"): (doctor, ("--json",)),
    ("image", "amqp-url"): (amqp_url, ()),
    ("init",): (init, ()),
    ("setup",): (setup, get_args(Extra)),
    ("test",): (test, None),
    ("supervise",): (supervise, None),
}
"""Each command with the single arguments that it takes; None where it hands all of them on."""


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
    """Tell whether a command takes what stands after it: all, or one of some words at most."""
    return allowed is None or not rest or (len(rest) == 1 and rest[0] in allowed)


def _forget_own_path() -> None:
    """Take the clone out of PYTHONPATH, so that programs started from here do not see it."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        entry for entry in path if entry != str(CLONE.root)
    )


def _bring_up(chosen: Broker) -> None:
    """Make sure of a service that is ready; where it is, only look."""
    service, venv = Service(CLONE), Venv(CLONE)
    if service.running():
        service.check_fits(chosen)
    if venv.fits("service") and service.ready():
        return
    with CLONE.locked():
        venv.ensure("service")
        chosen.ensure_installed(CLONE)
        chosen.ensure_running()
        service.start(chosen, venv.variant)
    service.wait_until_ready()


def _become(command: list[str], settings: Mapping[str, str]) -> int:
    """Replace this process by a program."""
    sys.stdout.flush()
    os.execvpe(command[0], command, os.environ | dict(settings))  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
