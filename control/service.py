"""The service of this clone: started in the background, waited for, told about, stopped."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from control import loopback, model, readiness, supervisor
from control.broker import Broker
from control.say import Failure, Progress, note
from control.settings import PREFIX, given, number, setting
from control.state import Clone, Process, read_record, rotate, tail
from control.torch_build import Variant

_HERE = Path(__file__).resolve().parent.parent


class Service:
    """`imagegen serve` under its supervisor."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone
        self._supervisor = clone.record("service")
        self._program = clone.record("serve")
        self.log = clone.log("service")
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        """Tell whether its supervisor is there."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        return Process.recorded(self._supervisor) is not None

    def ready(self) -> bool:
        """Tell whether it runs and takes requests."""
        return self.running() and readiness.is_ready(self.url)

    @property
    def url(self) -> str:
        return str(read_record(self._supervisor).get("url", ""))

    def settings(self, broker: Broker, variant: Variant) -> dict[str, str]:
        """Return the environment that a start would give it; a port is not looked for."""
        return self._environment(broker, model.choose(variant), port=0)

    def start(self, broker: Broker, variant: Variant) -> None:
        """Start it unless it runs. Returns before it is ready."""
        if self.running():
            return
        self.stop()  # a service that lost its supervisor
        host, port = self._address()
        chosen = model.choose(variant)
        if chosen is not None:
            note(model.NOTICE)
        drain_s = number("DRAIN_S", 60)
        rotate(self.log)
        with self.log.open("ab") as out:
            log_began = out.tell()
            self._child = subprocess.Popen(
                self._command(drain_s),
                env=self._environment(broker, chosen, port),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process.of(self._child.pid)
        if process is not None:
            process.write(
                self._supervisor,
                url=f"http://{host}:{port}",
                broker=broker.identity(),
                model=chosen,
                drain_s=drain_s,
                log_began=log_began,
                settings=_fingerprints(),
            )

    def check_fits(self, broker: Broker) -> None:
        """Compare the running service with what is asked for now.

        Raises:
            Failure: it uses another broker, so that nobody would read the request.
        """
        record = read_record(self._supervisor)
        if record.get("broker") != broker.identity():
            raise Failure(
                f"The service runs with another broker than {PREFIX}AMQP_URL tells now.",
                "Run ./control.sh image restart, or set the variable as it was.",
            )
        had = record.get("settings", {})
        differing = [name for name, value in _fingerprints().items() if had.get(name) != value]
        if differing:
            note(
                f"The service runs without your {', '.join(differing)}:"
                " ./control.sh image restart applies it."
            )

    def stop(self) -> None:
        """End it: it finishes the work in hand first, within its drain time."""
        drain_s = float(read_record(self._supervisor).get("drain_s", 60))
        with Progress("Stopping the service") as progress:
            for record in (self._supervisor, self._program):
                process = Process.recorded(record)
                if process is not None:
                    _end(process, supervisor.patience_s(drain_s), progress)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._supervisor.unlink(missing_ok=True)
        self._program.unlink(missing_ok=True)

    def describe(self) -> str:
        """Return a line on what it is doing."""
        process = Process.recorded(self._program)
        if not self.running():
            code = read_record(self._program).get("code")
            return f"stopped, last ended with {code}" if code else "stopped"
        if process is None:
            return "died, is started again"
        page = readiness.health(self.url)
        state = page.get("state", "does not answer")
        return f"{state}, process {process.pid}, {self.url}: {page.get('note', '')}"

    def model(self) -> str:
        """Return the model in use, as the service tells, else as it was started with."""
        told = readiness.model(readiness.health(self.url))
        return str(told or read_record(self._supervisor).get("model") or setting("MODEL") or "")

    def raise_if_ended(self) -> None:
        program = read_record(self._program)
        if not self.running():
            if program.get("code") == supervisor.CONFIGURATION_ERROR:
                sentence = "The service refuses its settings."
                raise Failure(
                    sentence, "Correct what the lines above name.", tail(self.log, 12)
                )
            raise self.failure("The service ended while it started.")
        if program.get("restarts", 0) >= readiness.RESTARTS:
            failure = self.failure("The service ends again and again while it starts.")
            self.stop()
            raise failure

    def failure(self, sentence: str) -> Failure:
        remedy = f"The lines above may say why; all of them: {self.log}"
        return Failure(sentence, remedy, self._last_words())

    def _address(self) -> tuple[str, int]:
        """Return where it will listen, as seen from this machine."""
        host = setting("HOST") or loopback.ADDRESS
        host = {"0.0.0.0": loopback.ADDRESS, "::": "[::1]"}.get(host, host)  # noqa: S104 - compared
        port = int(number("PORT", 8034))
        if port == 0:
            port = loopback.choose_ports({"http": 0})["http"]
        if port not in range(65_536):
            raise Failure(
                f"{PREFIX}PORT is {port}.", "Give a port from 1 to 65535, or 0 for any."
            )
        if not loopback.is_free(port):
            raise Failure(
                f"Port {port}, where the service would listen, is taken by another program.",
                f"End that program, or take another port: {PREFIX}PORT=8035 ./control.sh image start",
            )
        return host, port

    def _command(self, drain_s: float) -> list[str]:
        supervise = [sys.executable, "-P", "-S", "-m", "control", "supervise"]
        program = str(self._clone.venv / "bin" / "imagegen")
        return [*supervise, str(self._program), f"{drain_s:g}", program, "serve"]

    def _environment(self, broker: Broker, chosen: str | None, port: int) -> dict[str, str]:
        cache = self._clone.cache
        # What libraries would otherwise write into the home folder.
        caches = {
            "XDG_CACHE_HOME": cache,
            "HF_HOME": cache / "huggingface",
            "CUDA_CACHE_PATH": cache / "cuda",
            "TRITON_CACHE_DIR": cache / "triton",
            "TORCHINDUCTOR_CACHE_DIR": cache / "inductor",
            "MIOPEN_USER_DB_PATH": cache / "miopen",
            "MIOPEN_CUSTOM_CACHE_DIR": cache / "miopen",
        }
        ours = {name: str(path) for name, path in caches.items()} | os.environ
        ours["PYTHONPATH"] = str(_HERE)
        ours |= broker.service_settings()
        if chosen is not None:
            ours[f"{PREFIX}MODEL"] = chosen
        if setting("DATA_DIR") is None:
            ours[f"{PREFIX}DATA_DIR"] = str(self._clone.data)
        if setting("PORT") == "0":
            ours[f"{PREFIX}PORT"] = str(port)
        return ours

    def _last_words(self) -> list[str]:
        """Return the end of what it logged since it was started."""
        return tail(self.log, 20, since=read_record(self._supervisor).get("log_began", 0))


def _fingerprints() -> dict[str, str]:
    """Return the settings given now, each as a hash: some are secrets."""
    ours = {f"{PREFIX}VARIANT", f"{PREFIX}TORCH_INDEX", f"{PREFIX}AMQP_URL"}
    return {
        name: hashlib.sha256(value.encode()).hexdigest()[:16]
        for name, value in given().items()
        if name not in ours
    }


def _end(process: Process, patience_s: float, progress: Progress) -> None:
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
        while process.alive() and time.monotonic() - began < patience_s:
            progress.tell("it finishes the work in hand")
            time.sleep(readiness.LOOK_EVERY_S / 4)
        if process.alive():
            os.kill(process.pid, signal.SIGKILL)
