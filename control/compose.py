"""The service in containers, by docker-compose.yml: the same words as natively, the same results."""

import stat
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from control import compose_files, docker, loopback, readiness
from control.broker import describe_queue
from control.handover import asks_for_help, become, client
from control.place import NOT_READY
from control.program import Judgement
from control.project import Project
from control.say import Failure, note
from control.service import Service
from control.settings import PREFIX
from control.state import Clone
from control.supervisor import CONFIGURATION_ERROR
from control.torch_build import guess_variant, wanted_variant
from control.venv import Venv

_SERVICE, _BROKER = "image-service", "rabbitmq"
_HTTP, _AMQP, _MANAGEMENT = "8034", "5672", "15672"
_MOVED_BY = {
    _HTTP: f"{PREFIX}PORT",
    _AMQP: "RABBITMQ_PORT",
    _MANAGEMENT: "RABBITMQ_MANAGEMENT_PORT",
}
"""The variable of docker-compose.yml that moves a port, by its number inside."""
_IN_THE_IMAGE = (
    "Dockerfile",
    "clients",
    "constraints.txt",
    "consumer",
    "pyproject.toml",
    "schemas",
)
_NOT_BUILT = Judgement(
    "The image could not be built.",
    "Mostly that is the network or a full disk. Put it right and run the same command again: it"
    " goes on where it stopped.",
)
_NOT_STARTED = Judgement(
    "The containers do not start.",
    "The lines above say why; the broker's own: docker compose --profile image-gen logs rabbitmq",
)
_NOT_STOPPED = Judgement("The containers do not stop.", "The lines above say why.")


class Compose:
    """A place: containers of the Docker engine that answers."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone
        self._secrets = clone.state / "secrets"
        self._project = Project(clone)
        self._before: dict[str, Any] = {}

    def init(self) -> int:
        """Make what is missing: secrets, .env, the image, and the client on this machine."""
        with self._clone.locked():
            self._make_files()
            Venv(self._clone).ensure("client")
            self._ensure_image()
        print('All is there. Draw: ./control.sh image generate "A sunset over mountains"')
        return 0

    def build(self, arguments: list[str]) -> int:
        """Build the image, of this machine's variant where none is named."""
        named = arguments[-1].removeprefix("--variant=") if arguments else None
        with self._clone.locked():
            self._make_files()
        return self._project.become("build", _SERVICE, variant=named)

    def start(self) -> int:
        """Start broker and service."""
        self._bring_up()
        print(f"The service is ready: {self.url}")
        return 0

    def stop(self) -> int:
        """Stop the service, which finishes the work in hand, then the broker."""
        self._stop(_SERVICE, _BROKER)
        print("The service is stopped.")
        return 0

    def restart(self) -> int:
        """Stop the service, start it with the settings of now; the broker goes on."""
        self._stop(_SERVICE)
        return self.start()

    def status(self) -> int:
        """Tell what runs."""
        self._make_files()
        ready = self.ready()
        page = readiness.health(self.url) if self._project.running(_SERVICE) else {}
        print(f"service  {self._describe_service(page)}")
        print(f"model    {readiness.model(page) or 'the default'}")
        print(f"broker   {self._describe_broker()}")
        return 0 if ready else NOT_READY

    def generate(self, arguments: list[str]) -> int:
        """Draw a picture; where everything is up, only look and hand over."""
        self._make_files()
        if not asks_for_help(arguments):
            self._check_owner()
            if not self.ready():
                self._bring_up()
        with self._clone.locked():
            Venv(self._clone).ensure("client")
        command = client(self._clone, arguments)
        return become(command, {f"{PREFIX}AMQP_URL": self._chat_url()})

    def logs(self, arguments: list[str]) -> int:
        """Show the end of the service's log."""
        self._make_files()
        if not self._project.container(_SERVICE):
            raise Failure("There is no log yet.", "Start the service: ./control.sh image start")
        follow = ["--follow"] if arguments else []
        return self._project.become(
            "logs", "--no-log-prefix", "--tail", "200", *follow, _SERVICE
        )

    def doctor(self, arguments: list[str]) -> int:
        """Examine what the service needs, in its container or one like it; starts nothing else."""
        with self._clone.locked():
            self._make_files()
            self._ensure_image()
        verb = ["exec"] if self._project.running(_SERVICE) else ["run", "--rm", "--no-deps"]
        terminal = [] if sys.stdin.isatty() and sys.stdout.isatty() else ["--no-TTY"]
        return self._project.become(
            *verb, *terminal, _SERVICE, "imagegen", "doctor", *arguments
        )

    def amqp_url(self) -> int:
        """Print the URL of a chat backend."""
        self._make_files()
        print(self._chat_url())
        return 0

    # ------------------------------------------------------------ the service, once started

    @property
    def url(self) -> str:
        return f"http://{loopback.ADDRESS}:{self._project.ports(_SERVICE)[_HTTP]}"

    def ready(self) -> bool:
        """Tell whether its container runs and takes requests."""
        return readiness.is_ready(self.url) and self._project.running(_SERVICE)

    def raise_if_ended(self) -> None:
        container = self._project.container(_SERVICE)
        state = container.get("State", {})
        if state.get("Status") in {None, "exited", "dead"}:
            raise self.failure("The service ended while it started.")
        restarts = self._restarts(container)
        refused = restarts and state.get("ExitCode") == CONFIGURATION_ERROR
        if refused or restarts >= readiness.RESTARTS:
            failure = self.failure(
                "The service refuses its settings."
                if refused
                else "The service ends again and again while it starts."
            )
            self._stop(_SERVICE)
            raise failure

    def failure(self, sentence: str) -> Failure:
        remedy = "The lines above may say why; all of them: ./control.sh image logs"
        return Failure(sentence, remedy, self._project.last_words(_SERVICE))

    def _restarts(self, container: Mapping[str, Any]) -> int:
        """Return how often it was started again since we had it started.

        The engine counts on for as long as a container runs, be it for months.
        """
        before, counted = self._before, int(container.get("RestartCount", 0))
        ran_on = before.get("State", {}).get("Running") and before["Id"] == container.get("Id")
        return counted - (int(before["RestartCount"]) if ran_on else 0)

    # ------------------------------------------------------------ starting and stopping

    def _bring_up(self) -> None:
        """Make sure of a service that is ready and has the settings of now."""
        if Service(self._clone).running():
            raise Failure(
                "The service of this clone runs natively.",
                f"Stop it first: {PREFIX}RUN=native ./control.sh image stop",
            )
        with self._clone.locked():
            self._make_files()
            self._check_owner()
            self._check_files()
            self._check_ports()
            self._ensure_image()
            self._before = self._project.container(_SERVICE)
            self._project.run(
                "Starting the containers", _NOT_STARTED, "up", "-d", "--no-build", _SERVICE
            )
        readiness.wait(self)

    def _stop(self, *services: str) -> None:
        with self._clone.locked():
            self._make_files()
            self._check_owner()
            for service in services:
                self._project.run(f"Stopping {service}", _NOT_STOPPED, "stop", service)

    def _make_files(self) -> None:
        """Make the secrets and .env, without which compose would not do what its file says."""
        compose_files.write(self._secrets)
        variant = wanted_variant() or guess_variant()
        compose_files.complete(self._clone.root / ".env", variant)

    def _ensure_image(self) -> None:
        image = self._project.image(_SERVICE)
        if not docker.has_image(image):
            self._project.run(f"Building {image}", _NOT_BUILT, "build", _SERVICE)
            return
        built_of = docker.revision(image)
        if built_of and self._clone.changed_since(built_of, *_IN_THE_IMAGE):
            note(
                f"{image} is of {built_of[:9]}, and this clone is not:"
                " ./control.sh image build brings it up to date."
            )

    def _check_owner(self) -> None:
        """Raise a `Failure` where the containers are those of another clone, as all have one name."""
        for service in (_BROKER, _SERVICE):
            folder = self._project.folder(service)
            if folder is not None and folder != self._clone.root.resolve():
                raise Failure(
                    f"The containers of that name belong to the clone in {folder}.",
                    "Go there; or let this one have its own: put COMPOSE_PROJECT_NAME=NAME into its"
                    f" .env, and other ports ({', '.join(_MOVED_BY.values())}).",
                )

    def _check_files(self) -> None:
        """Raise a `Failure` where the broker's user, who is not this one, could not read its files."""
        for path in sorted((self._clone.root / "rabbitmq").glob("*")):
            # On a Mac the engine's machine shows every file as the reader's own.
            if sys.platform.startswith("linux") and not path.stat().st_mode & stat.S_IROTH:
                raise Failure(
                    f"The broker could not read {path}: it is for its owner alone.",
                    "Let others read it, as clones are without a closed umask:"
                    " chmod -R a+rX rabbitmq monitoring",
                )

    def _check_ports(self) -> None:
        """Raise a `Failure` where something else holds a port, be it this service natively."""
        for service in (_BROKER, _SERVICE):
            running = self._project.running(service)
            for inside, port in self._project.ports(service).items():
                if not running and not loopback.is_free(port):
                    raise Failure(
                        f"Port {port}, where {service} would be reached, is taken by another"
                        " program.",
                        # In .env, as every command after this one has to know it.
                        "End that program, or take another port: put"
                        f" {_MOVED_BY[inside]}={port + 1} into .env and run this again.",
                    )

    # ------------------------------------------------------------ what is told

    def _describe_service(self, page: Mapping[str, Any]) -> str:
        container = self._project.container(_SERVICE)
        found = container.get("State", {})
        if not found.get("Running"):
            code = found.get("ExitCode")
            return f"stopped, last ended with {code}" if code else "stopped"
        name = container["Name"].removeprefix("/")
        state = page.get("state", "does not answer")
        return f"{state}, container {name}, {self.url}: {page.get('note', '')}"

    def _describe_broker(self) -> str:
        if not self._project.running(_BROKER):
            return "container, stopped"
        ports = self._project.ports(_BROKER)
        url = urlsplit((self._secrets / "image_gen_management_url").read_text(encoding="utf-8"))
        user = url.netloc.rpartition("@")[0]
        queue = describe_queue(f"http://{user}@{loopback.ADDRESS}:{ports[_MANAGEMENT]}")
        return f"container, {loopback.ADDRESS}:{ports[_AMQP]}, {queue}"

    def _chat_url(self) -> str:
        """Return the URL of a chat backend, with the port that is published."""
        url = (self._secrets / "chat_backend_url").read_text(encoding="utf-8").strip()
        return url.replace(f":{_AMQP}/", f":{self._project.ports(_BROKER)[_AMQP]}/")
