"""The service on this machine itself: virtual environment, private broker, supervised service."""

from control import broker, readiness
from control.broker import Broker
from control.handover import asks_for_help, become, client
from control.place import NOT_READY
from control.say import Failure
from control.service import Service
from control.settings import PREFIX
from control.state import Clone
from control.venv import Venv


class Native:
    """A place: this machine."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone

    def init(self) -> int:
        """Make what is missing."""
        chosen = broker.choose(self._clone)
        with self._clone.locked():
            Venv(self._clone).ensure("service", look_again=True)
            chosen.ensure_installed(self._clone)
            chosen.chat_url()
        print('All is there. Draw: ./control.sh image generate "A sunset over mountains"')
        return 0

    def build(self, _: list[str]) -> int:
        """Refuse: an image takes an engine."""
        raise Failure(
            "An image is built by a Docker engine, and none is in use here.",
            f"Start Docker, or say {PREFIX}RUN=compose to be told what is in its way. Natively"
            " ./control.sh init makes what the service needs.",
        )

    def start(self) -> int:
        """Start broker and service."""
        self._bring_up(broker.choose(self._clone))
        print(f"The service is ready: {Service(self._clone).url}")
        return 0

    def stop(self) -> int:
        """Stop the service, then the private broker."""
        with self._clone.locked():
            Service(self._clone).stop()
            broker.choose(self._clone).stop()
        print("The service is stopped.")
        return 0

    def restart(self) -> int:
        """Stop the service and start it again; the broker goes on."""
        with self._clone.locked():
            Service(self._clone).stop()
        return self.start()

    def status(self) -> int:
        """Tell what runs."""
        service = Service(self._clone)
        print(f"service  {service.describe()}")
        print(f"model    {service.model() or 'the default'}")
        print(f"broker   {broker.choose(self._clone).describe()}")
        return 0 if service.ready() else NOT_READY

    def generate(self, arguments: list[str]) -> int:
        """Draw a picture; where everything is up, only look and hand over."""
        chosen = broker.choose(self._clone)
        if asks_for_help(arguments):
            with self._clone.locked():
                Venv(self._clone).ensure("client")
        else:
            self._bring_up(chosen)
        return become(client(self._clone, arguments), chosen.caller_settings())

    def logs(self, arguments: list[str]) -> int:
        """Show the end of the service's log."""
        log = Service(self._clone).log
        if not log.exists():
            raise Failure("There is no log yet.", "Start the service: ./control.sh image start")
        return become(["tail", "-n", "200", *(["-F"] if arguments else []), str(log)], {})

    def doctor(self, arguments: list[str]) -> int:
        """Examine what the service needs, with the settings that it would get."""
        venv = Venv(self._clone)
        with self._clone.locked():
            venv.ensure("service")
            settings = Service(self._clone).settings(broker.choose(self._clone), venv.variant)
        program = self._clone.venv / "bin" / "imagegen"
        return become([str(program), "doctor", *arguments], settings)

    def amqp_url(self) -> int:
        """Print the URL of a chat backend."""
        with self._clone.locked():
            print(broker.choose(self._clone).chat_url())
        return 0

    def _bring_up(self, chosen: Broker) -> None:
        """Make sure of a service that is ready; where it is, only look."""
        service, venv = Service(self._clone), Venv(self._clone)
        if service.running():
            service.check_fits(chosen)
        if venv.fits("service") and service.ready():
            return
        with self._clone.locked():
            venv.ensure("service")
            chosen.ensure_installed(self._clone)
            chosen.ensure_running()
            service.start(chosen, venv.variant)
        readiness.wait(service)
