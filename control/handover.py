"""Where control.sh ends and another program goes on in its process."""

import os
import sys
from collections.abc import Mapping

from control.state import Clone


def asks_for_help(arguments: list[str]) -> bool:
    """Tell whether a command's own help is wanted, for which nothing has to run."""
    return bool({"-h", "--help"} & set(arguments))


def client(clone: Clone, arguments: list[str]) -> list[str]:
    """Return the command that sends a prompt and leaves the picture in the clone's folder."""
    given = any(argument.startswith(("-o", "--output")) for argument in arguments)
    output = [] if given else ["-o", str(clone.pictures)]
    return [str(clone.venv / "bin" / "imagegen"), "generate", *output, *arguments]


def become(command: list[str], settings: Mapping[str, str]) -> int:
    """Replace this process by a program."""
    sys.stdout.flush()
    os.execvpe(command[0], command, os.environ | dict(settings))  # noqa: S606 - no shell wanted
