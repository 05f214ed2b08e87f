"""docker-compose.yml as compose reads it, .env and overrides included, and the containers of it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from control import compose_files, docker
from control.handover import become
from control.program import Judgement, run_logged
from control.say import Failure, Progress
from control.state import Clone
from control.torch_build import wanted_variant

_FOLDER = "com.docker.compose.project.working_dir"
"""Compose's own label."""
_PROFILE = ("--profile", "image-gen")


class Project:
    """The profile `image-gen` of a clone's compose project."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone
        self._read: dict[str, Any] = {}

    def image(self, service: str) -> str:
        """Return the name of a service's image."""
        return str(self._config()["services"][service]["image"])

    def ports(self, service: str) -> dict[str, int]:
        """Return the numbers on this machine by those inside."""
        found = self._config()["services"][service]["ports"]
        return {str(port["target"]): int(port["published"]) for port in found}

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a service's container; nothing where there is none."""
        return docker.inspect(f"{self._config()['name']}-{service}-1")

    def running(self, service: str) -> bool:
        """Tell whether a service's container runs, whatever is in it."""
        return bool(self.container(service).get("State", {}).get("Running"))

    def folder(self, service: str) -> Path | None:
        """Return the folder that a service's container was brought up in; None if it is gone."""
        labels = self.container(service).get("Config", {}).get("Labels") or {}
        folder = str(labels.get(_FOLDER, ""))
        try:
            return Path(folder).resolve(strict=True) if folder else None
        except FileNotFoundError:
            return None
        except OSError:
            return Path(folder)  # another person's, which we may not look into

    def last_words(self, service: str) -> list[str]:
        """Return the end of a service's log."""
        answer = self._ask("logs", "--no-log-prefix", "--tail", "20", service)
        return answer.stdout.splitlines()

    def run(self, title: str, failing: Judgement, *arguments: str) -> None:
        """Have compose do something long, its last line being the progress.

        Raises:
            Failure: as `failing` says.
        """
        command = ["docker", "compose", "--progress", "plain", *_PROFILE, *arguments]
        log = self._clone.log("compose")
        with Progress(title) as progress:
            run_logged(
                command,
                log,
                progress.tell,
                failing,
                self._environment(arguments),
                self._clone.root,
            )

    def become(self, *arguments: str, variant: str | None = None) -> int:
        """Hand over to compose, of the variant that is named or was asked for."""
        os.chdir(self._clone.root)
        return become(
            ["docker", "compose", *_PROFILE, *arguments], self._environment(arguments, variant)
        )

    def _config(self) -> dict[str, Any]:
        if not self._read:
            answer = self._ask("config", "--format", "json")
            if answer.returncode:
                raise Failure(
                    "docker compose does not read docker-compose.yml.",
                    "Correct what the lines above name; most of it stands in .env.",
                    answer.stderr.splitlines(),
                )
            self._read = json.loads(answer.stdout)
        return self._read

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", *_PROFILE, *arguments],
            cwd=self._clone.root,
            env=self._environment(arguments),
            capture_output=True,
            text=True,
            check=False,
        )

    def _environment(
        self, arguments: tuple[str, ...], variant: str | None = None
    ) -> dict[str, str]:
        """Return compose's environment; without a variant the files are those that .env names."""
        environment = dict(os.environ)
        if "build" in arguments:
            environment["IMAGE_REVISION"] = self._clone.revision()
        variant = variant or wanted_variant()
        if variant is not None:
            environment["COMPOSE_FILE"] = ":".join(compose_files.of(variant))
        return environment
