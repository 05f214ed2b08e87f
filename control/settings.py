"""The IMAGE_GEN_ settings that control.sh itself has to know; the service reads all of them."""

import os
from collections.abc import Mapping
from pathlib import Path

from control.say import Failure

PREFIX = "IMAGE_GEN_"


def setting(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return a setting's value, from the variable or the file it names; None where not given."""
    value = environment.get(PREFIX + name)
    if value:
        return value
    path = environment.get(f"{PREFIX}{name}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n") or None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(
            f"{PREFIX}{name}_FILE names a file that cannot be read: {error}.",
            "Correct the path, or unset the variable.",
        ) from error


def number(name: str, default: float, environment: Mapping[str, str] = os.environ) -> float:
    """Return a setting that is a number."""
    value = setting(name, environment)
    if value is None:
        return default
    try:
        return float(value)
    except ValueError as error:
        raise Failure(
            f"{PREFIX}{name} is {value!r}, which is no number.",
            f"Give a number, or unset it for {default:g}.",
        ) from error


def given(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return every variable with our prefix that has a value."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX) and value
    }
