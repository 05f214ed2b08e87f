"""One service at a time, kept from test to test of a file: a start costs seconds."""

from tests.serving import Served


class House:
    """Starts and stops services with some settings in common."""

    def __init__(self, broker, folder, **settings):
        self.folder = folder
        """The data folder of its services."""
        self._broker = broker
        self._settings = {
            "AMQP_URL": broker.url("imagegen-consumer"),
            "PORT": 0,
            "DATA_DIR": folder,
            "STORE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
            "MODEL": "scripted",
            "PIPELINE": "tests.pipelines:Scripted",
            "WORKER_NAME": "tester",
            "LOG_FORMAT": "json",
            **settings,
        }
        self._served = None
        self._wanted = {}

    def service(self, **wanted):
        """The service with these settings, idle, with its past forgotten.

        It is that of the test before, where that left one with the same settings as it found it.
        """
        kept = self._served is not None and self._wanted == wanted
        if not (kept and self._served.wait_idle()):
            return self.restart(**wanted)
        self._broker.purge()
        self._served.forget()
        return self._served

    def restart(self, **wanted):
        """Another service, with these settings."""
        self.stop()
        self._broker.purge()
        served = Served({**self._settings, **wanted})
        try:
            served.wait_ready()
        except AssertionError:
            served.kill()
            raise
        self._served, self._wanted = served, wanted
        return served

    def stop(self):
        """Nobody is at home; nothing waits in the queues."""
        served, self._served = self._served, None
        if served is not None:
            assert served.stop() == 0
        self._broker.purge()
