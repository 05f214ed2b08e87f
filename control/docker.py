"""The command `docker`: whether an engine answers, and what it says of a container."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

from control.place import Engine

OLDEST_ENGINE, OLDEST_COMPOSE = (25,), (2, 24)
_ANSWERS_WITHIN_S = 10.0
_NOT_ALLOWED = "this user may not speak to the Docker engine (sudo usermod -aG docker $USER, and log in again)."


def look() -> Engine | None:
    """Return the engine that answers, or what is wrong with it; None without a command `docker`."""
    if shutil.which("docker") is None:
        return None
    if _endpoint().startswith(("tcp:", "ssh:")):
        # Its ports and folders are not this machine's.
        return Engine(problem="docker speaks to an engine on another machine.")
    answer = _run("version", "--format", "{{.Server.Version}}")
    if answer is not None and "permission denied" in answer.stderr.lower():
        return Engine(problem=_NOT_ALLOWED)
    engine = _said(answer)
    compose = _ask("compose", "version", "--short") if engine else ""
    return Engine(engine, _problem(engine, compose))


def _endpoint() -> str:
    """Return the engine's address: as DOCKER_HOST says, else as the context in use does."""
    given = os.environ.get("DOCKER_HOST")
    return given or _ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")


def _problem(engine: str, compose: str) -> str:
    """Return what makes these versions useless, empty where nothing does."""
    if not engine:
        return "no Docker engine answers."
    if _number(engine) < OLDEST_ENGINE:
        return f"Docker Engine {engine} is older than 25."
    if not compose:
        return "docker has no compose plugin."
    if _number(compose) < OLDEST_COMPOSE:
        return f"Docker Compose {compose} is older than 2.24."
    return ""


def has_image(name: str) -> bool:
    """Tell whether an image is there."""
    return bool(_ask("image", "inspect", "--format", "{{.Id}}", name))


def revision(image: str) -> str:
    """Return the commit that an image was made of, empty where it tells none."""
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    return _ask("image", "inspect", "--format", label, image)


def inspect(container: str) -> dict[str, Any]:
    """Return what the engine says of a container; nothing where there is none."""
    text = _ask("container", "inspect", "--format", "{{json .}}", container)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _ask(*arguments: str) -> str:
    """Return what docker prints, empty where it fails or does not answer in time."""
    return _said(_run(*arguments))


def _run(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run docker; None where it does not answer in time, or cannot be run."""
    try:
        return subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWERS_WITHIN_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _said(answer: subprocess.CompletedProcess[str] | None) -> str:
    return "" if answer is None or answer.returncode else answer.stdout.strip()


def _number(version: str) -> tuple[int, ...]:
    """Return a version such as v2.40.3-3 as numbers to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
