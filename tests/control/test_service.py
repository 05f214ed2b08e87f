"""How the service is started in the background, waited for and stopped."""

import sys

import pytest

from control import model, readiness
from control.broker import Broker
from control.loopback import ask, choose_ports
from control.node import Node
from control.say import Failure
from control.service import Service
from control.state import Clone

# Takes the place of `imagegen serve`: tells its health, and that it was asked to leave.
PROGRAM = """#!{python}
import http.server, json, os, signal, sys
if os.environ["IMAGE_GEN_MODEL"] == "refused":
    print("IMAGE_GEN_MODEL is refused.", flush=True)
    sys.exit(78)
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = os.environ["IMAGE_GEN_MODEL"] != "slow"
        state = "ready" if ready else "failed"
        body = json.dumps({{"state": state, "note": "a note", "model": "m"}}).encode()
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
def leave(*_):
    print("leaving", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
print("started with", os.environ["IMAGE_GEN_DATA_DIR"], os.environ["HF_HOME"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["IMAGE_GEN_PORT"])), Pages).serve_forever()
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone whose `imagegen` is the program above, with a port of its own."""
    for name in ("MODEL", "DATA_DIR", "HOST", "AMQP_URL", "DRAIN_S", "DEVICE"):
        monkeypatch.delenv(f"IMAGE_GEN_{name}", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("IMAGE_GEN_PORT", str(choose_ports({"http": 0})["http"]))
    program = tmp_path / ".venv" / "bin" / "imagegen"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return Clone(tmp_path)


@pytest.fixture
def service(clone):
    """The service of the clone, stopped at the end."""
    service = Service(clone)
    yield service
    service.stop()


@pytest.fixture
def broker(clone):
    """A broker that was given, which nobody dials here."""
    return Broker("amqp://given/", Node(clone.broker))


def test_it_starts_answers_and_leaves_in_order(service, broker, clone):
    """A start leads to a ready service, a second start to nothing, a stop to none."""
    service.start(broker, "cpu")
    readiness.wait(service)
    assert service.ready()
    first = ask("GET", f"{service.url}/health")
    service.start(broker, "cpu")
    assert ask("GET", f"{service.url}/health") == first
    service.stop()
    assert not service.running()
    assert ask("GET", f"{service.url or 'http://127.0.0.1:1'}/health") is None
    assert service.log.read_text().splitlines() == [
        f"started with {clone.data} {clone.cache / 'huggingface'}",
        "leaving",
    ]


def test_without_a_card_it_gets_the_builtin_model_and_says_so(service, broker, capsys):
    """The small model takes the place of one that would not run, in one line."""
    service.start(broker, "cpu")
    assert service.model() in {"m", model.BUILTIN}
    assert capsys.readouterr().err == f"{model.NOTICE}\n"


def test_refused_settings_are_shown(service, broker, monkeypatch):
    """Where the service refuses its settings, its sentences are the evidence."""
    monkeypatch.setenv("IMAGE_GEN_MODEL", "refused")
    service.start(broker, "cpu")
    with pytest.raises(Failure) as failure:
        readiness.wait(service)
    assert failure.value.evidence == ["IMAGE_GEN_MODEL is refused."]


def test_a_failed_service_is_not_waited_for(service, broker, monkeypatch):
    """A state that does not pass ends the wait with the service's own sentence."""
    monkeypatch.setenv("IMAGE_GEN_MODEL", "slow")
    monkeypatch.setitem(readiness.PATIENCE_S, "failed", 0.0)
    service.start(broker, "cpu")
    with pytest.raises(Failure, match="a note"):
        readiness.wait(service)


def test_a_taken_port_is_named(service, broker, clone):
    """A port of somebody else is an error that names the setting."""
    service.start(broker, "cpu")
    readiness.wait(service)
    with pytest.raises(Failure) as failure:
        Service(Clone(clone.root / "other")).start(broker, "cpu")
    assert "IMAGE_GEN_PORT" in failure.value.remedy


def test_another_broker_than_it_runs_with_is_told(service, broker, clone):
    """A request that nobody would read is not sent."""
    service.start(broker, "cpu")
    service.check_fits(broker)
    with pytest.raises(Failure) as failure:
        service.check_fits(Broker("amqp://another/", Node(clone.broker)))
    assert "restart" in failure.value.remedy


def test_settings_that_it_does_not_have_are_told(service, broker, monkeypatch, capsys):
    """Settings given now and not at its start are named, and how they come into force."""
    service.start(broker, "cpu")
    capsys.readouterr()
    monkeypatch.setenv("IMAGE_GEN_GUIDANCE_SCALE", "3")
    service.check_fits(broker)
    assert "IMAGE_GEN_GUIDANCE_SCALE" in capsys.readouterr().err


def test_the_doctor_gets_what_the_service_would(service, broker, clone, monkeypatch):
    """Its folders, its model, and the private broker's URLs where none was given; nothing starts."""
    monkeypatch.setattr(model, "_largest", lambda _: 0)
    given = service.settings(broker, "cpu")
    assert given["IMAGE_GEN_DATA_DIR"] == str(clone.data)
    assert given["IMAGE_GEN_MODEL"] == model.BUILTIN
    assert given["HF_HOME"] == str(clone.cache / "huggingface")
    assert "IMAGE_GEN_MANAGEMENT_URL" not in given
    private = service.settings(Broker(None, broker.node), "cpu")
    assert private["IMAGE_GEN_AMQP_URL"] == broker.node.amqp_url("imagegen-consumer")
    assert private["IMAGE_GEN_MANAGEMENT_URL"] == broker.node.management_url("monitoring")
    assert not service.running()
    assert not broker.node.running()
