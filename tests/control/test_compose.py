"""The service in containers: what control.sh has Docker do, and what it makes of the answers.

Docker is a program of ours here; tools/image_check.sh does the same on a real engine.
"""

import http.server
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from control import compose, compose_files, docker, project
from control.compose import Compose
from control.loopback import choose_ports
from control.place import NOT_READY
from control.say import Failure
from control.state import Clone, Process
from control.venv import Venv

# Takes the place of `docker`: containers are files; what changes something is written down. A
# shell, which starts sooner than Python.
DOCKER = """#!/usr/bin/env bash
cd "{state}"
words="$*" last=${{*: -1}}
note() {{ echo "${{words#*image-gen }}" >>done; }}
case $words in
  "version "*) cat engine ;;
  "compose version "*) cat plugin ;;
  "context inspect "*) cat endpoint ;;
  "image inspect "*revision*) cat revision ;;
  "image inspect "*) test -e image && echo sha256 ;;
  "container inspect "*) last=${{last#imagegen-}}; cat "${{last%-1}}.container" ;;
  *" config "*) test -s config && cat config ;;
  *" logs "*) echo "the last words" ;;
  *" build "*) note; touch image ;;
  *" up "*)
    note
    sed "s/NAME/rabbitmq/; s/CODE/0/; s/COUNT/0/" running >rabbitmq.container
    sed "s/NAME/image-service/; s/CODE/${{ENDS_WITH:-0}}/; s/COUNT/${{ENDS_WITH:-0}}/" running \\
      >new && mv new image-service.container ;;
  *" stop "*)
    note
    sed 's/true/false/; s/running/exited/' "$last.container" >new && mv new "$last.container"
    # As an engine does, it leaves the port free.
    while [[ $last == image-service ]] && (: <>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do :; done ;;
  *) exit 1 ;;
esac
"""
RUNNING = (
    '{"Name": "/imagegen-NAME-1", "Id": "NAME", "RestartCount": COUNT, '
    '"State": {"Running": true, "ExitCode": CODE, "Status": "running"}}'
)


class Pages(http.server.BaseHTTPRequestHandler):
    """The pages of a service that is ready, and of a broker without statistics."""

    def do_GET(self):
        self.send_response(404 if "/api/" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'{"state": "ready", "note": "a note", "model": "m"}')

    def log_message(self, *_):
        pass


@pytest.fixture
def ports():
    return choose_ports({"http": 0, "amqp": 0, "management": 0})


@pytest.fixture
def engine(tmp_path, ports, monkeypatch):
    """A `docker` of our own in front of PATH; returns the folder of its state."""
    state = tmp_path / "engine"
    (state / "bin").mkdir(parents=True)
    program = state / "bin" / "docker"
    program.write_text(DOCKER.format(state=state, port=ports["http"]))
    (state / "running").write_text(RUNNING)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    for name in ("IMAGE_GEN_VARIANT", "IMAGE_GEN_AMQP_URL", "IMAGE_GEN_PORT", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    (state / "engine").write_text("28.5.2")
    (state / "plugin").write_text("v2.40.3-3")
    services = {
        "image-service": {"image": "imagegen:x", "ports": published(ports, {"http": 8034})},
        "rabbitmq": {"ports": published(ports, {"amqp": 5672, "management": 15672})},
    }
    (state / "config").write_text(json.dumps({"name": "imagegen", "services": services}))
    (state / "done").touch()
    return state


def published(ports, inside):
    return [
        {"published": str(ports[name]), "target": number} for name, number in inside.items()
    ]


@pytest.fixture
def pages(engine, ports):
    """The service's pages, as long as its container runs."""
    over = threading.Event()

    def running():
        page = engine / "image-service.container"
        return not over.is_set() and page.exists() and '"Running": true' in page.read_text()

    def serve():
        while not over.wait(0.01):
            if running():
                with http.server.HTTPServer(("127.0.0.1", ports["http"]), Pages) as server:
                    server.timeout = 0.01
                    while running():
                        server.handle_request()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def clone(tmp_path, engine, monkeypatch):
    """A clone whose virtual environment is there."""
    monkeypatch.setattr(Venv, "ensure", lambda *_, **__: None)
    clone = Clone(tmp_path / "clone")
    clone.root.mkdir()
    return clone


def done(engine):
    return (engine / "done").read_text().splitlines()


@pytest.fixture
def became(monkeypatch):
    """The programs that would have taken the place of this process."""
    commands = []
    for module in (compose, project):
        monkeypatch.setattr(
            module, "become", lambda *arguments: commands.append(arguments) or 0
        )
    monkeypatch.setattr(project.os, "chdir", lambda _: None)
    return commands


def test_a_start_builds_what_is_missing_once_and_waits(clone, engine, pages, capsys):
    """Secrets, .env and the image are made, the containers started, the service waited for."""
    place = Compose(clone)
    assert not compose_files.made(clone)
    assert place.start() == 0
    assert done(engine) == ["build image-service", "up -d --no-build image-service"]
    assert capsys.readouterr().out == f"The service is ready: {place.url}\n"
    assert (clone.state / "secrets" / "image_gen_api_token").is_file()
    assert compose_files.made(clone)
    assert "COMPOSE_FILE" in (clone.root / ".env").read_text()
    assert Compose(clone).restart() == 0
    assert done(engine)[2:] == ["stop image-service", "up -d --no-build image-service"]


def test_an_image_of_older_code_is_told(clone, engine, pages, capsys):
    """After `git pull` a start goes on with the image that is there: it says so, and what brings the new."""
    code = clone.root / "consumer"
    code.mkdir()
    (engine / "image").touch()
    (engine / "revision").write_text(committed(clone, code / "a.py", "1"))
    Compose(clone).start()
    assert "image build" not in capsys.readouterr().err
    committed(clone, clone.root / "README.md", "no part of the image")
    Compose(clone).restart()
    assert "image build" not in capsys.readouterr().err
    committed(clone, code / "a.py", "2")
    Compose(clone).restart()
    assert "./control.sh image build" in capsys.readouterr().err


def committed(clone, path, text):
    """Write a file and commit it. Returns the commit."""
    path.write_text(text)
    git = ["git", "-C", str(clone.root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", str(path)], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    return clone.revision()


def test_status_tells_the_same_lines_and_codes_as_natively(clone, engine, pages, capsys):
    """Service, model, broker; 0 where requests are taken, 3 where not."""
    place = Compose(clone)
    assert place.status() == NOT_READY
    assert capsys.readouterr().out.splitlines() == [
        "service  stopped",
        "model    the default",
        "broker   container, stopped",
    ]
    place.start()
    capsys.readouterr()
    assert place.status() == 0
    service, model, broker = capsys.readouterr().out.splitlines()
    assert service == f"service  ready, container imagegen-image-service-1, {place.url}: a note"
    assert model == "model    m"
    assert broker.startswith("broker   container, 127.0.0.1:")


def test_a_stop_ends_the_service_before_the_broker(clone, engine, pages):
    """The work in hand is answered while there is a broker to answer through."""
    Compose(clone).start()
    Compose(clone).stop()
    assert done(engine)[-2:] == ["stop image-service", "stop rabbitmq"]


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("http", "IMAGE_GEN_PORT"),
        ("amqp", "RABBITMQ_PORT"),
        ("management", "RABBITMQ_MANAGEMENT_PORT"),
    ],
)
def test_a_taken_port_is_named_before_anything_starts(clone, engine, ports, name, variable):
    """Another program on a port is an error that names the variable which moves it."""
    with (
        socket.create_server(("127.0.0.1", ports[name])),
        pytest.raises(Failure) as failure,
    ):
        Compose(clone).start()
    assert str(ports[name]) in failure.value.sentence
    # Where the commands after it find it, too.
    assert f"{variable}={ports[name] + 1} into .env" in failure.value.remedy
    assert done(engine) == []


def test_files_that_the_broker_cannot_read_are_named_before_anything_starts(clone, engine):
    """A clone made with a closed umask has them for its owner alone; the container's user is another."""
    conf = clone.root / "rabbitmq" / "rabbitmq.conf"
    conf.parent.mkdir()
    conf.touch(0o600)
    with pytest.raises(Failure, match=r"rabbitmq\.conf") as failure:
        Compose(clone).start()
    assert "chmod -R a+rX rabbitmq monitoring" in failure.value.remedy
    assert done(engine) == []


def test_a_service_that_runs_natively_is_not_doubled(clone, engine):
    """Two of one clone would share a port and part their work."""
    Process.of(os.getpid()).write(clone.record("service"))
    with pytest.raises(Failure) as failure:
        Compose(clone).start()
    assert "IMAGE_GEN_RUN=native ./control.sh image stop" in failure.value.remedy
    assert done(engine) == []


@pytest.mark.parametrize(
    ("code", "sentence"), [("78", "refuses its settings"), ("3", "again and again")]
)
def test_a_service_that_ends_again_and_again_is_told_and_stopped(
    clone, engine, monkeypatch, code, sentence
):
    """What the engine would restart for ever is given up, with the service's last words."""
    monkeypatch.setenv("ENDS_WITH", code)
    with pytest.raises(Failure, match=sentence) as failure:
        Compose(clone).start()
    assert failure.value.evidence == ["the last words"]
    assert done(engine)[-1] == "stop image-service"


def test_deaths_of_weeks_ago_do_not_end_a_service(clone, engine, monkeypatch):
    """One that runs and is not ready just now is waited for, however often it was restarted before."""
    often = {"Id": "a", "RestartCount": 7, "State": {"Running": True, "Status": "running"}}
    (engine / "image-service.container").write_text(json.dumps(often))
    (engine / "running").write_text(json.dumps(often))
    place = Compose(clone)
    looked = []

    def ready():
        looked.append(None)
        return len(looked) > 1

    monkeypatch.setattr(place, "ready", ready)
    assert place.start() == 0
    assert done(engine)[-1] == "up -d --no-build image-service"


@pytest.mark.parametrize("command", ["start", "stop", "generate"])
def test_the_containers_of_another_clone_are_left_alone(
    clone, engine, tmp_path, became, command
):
    """Every clone's containers have one name: who is meant is told, and how to have both."""
    other = tmp_path / "other"
    other.mkdir()
    of_other(engine, other)
    arguments = (["A cat"],) if command == "generate" else ()
    with pytest.raises(Failure, match=re.escape(str(other))) as failure:
        getattr(Compose(clone), command)(*arguments)
    assert "COMPOSE_PROJECT_NAME" in failure.value.remedy
    assert (done(engine), became) == ([], [])


def test_the_containers_of_a_clone_that_was_moved_are_its_own(clone, engine, tmp_path):
    """A folder that is not there any more is no other clone."""
    of_other(engine, tmp_path / "gone")
    assert Compose(clone).stop() == 0


def of_other(engine, folder):
    """A broker that runs, brought up in a folder."""
    labels = {"com.docker.compose.project.working_dir": str(folder)}
    told = {"Config": {"Labels": labels}, "State": {"Running": True, "Status": "running"}}
    for service in ("rabbitmq", "image-service"):
        (engine / f"{service}.container").write_text(json.dumps(told))


def test_a_chat_backend_is_told_the_port_that_is_published(clone, engine, ports, capsys):
    """The URL leads to the broker, wherever .env has moved it."""
    Compose(clone).amqp_url()
    url = capsys.readouterr().out
    assert url.startswith("amqp://chat-backend:")
    assert url.endswith(f"@127.0.0.1:{ports['amqp']}/imagegen\n")


def test_a_picture_is_drawn_from_this_machine(clone, engine, pages, ports, became):
    """The client outside sends it, so that options and paths mean what they do natively."""
    assert Compose(clone).generate(["A cat", "--seed", "7"]) == 0
    ((command, settings),) = became
    assert command[1:] == [
        "generate", "-o", str(clone.pictures), "A cat", "--seed", "7"
    ]  # fmt: skip
    assert f":{ports['amqp']}/" in settings["IMAGE_GEN_AMQP_URL"]


def test_the_doctor_looks_from_inside_a_container(clone, engine, pages, became):
    """In the one that runs, else in one like it that leaves nothing behind."""
    Compose(clone).doctor(["--json"])
    Compose(clone).start()
    Compose(clone).doctor([])
    before, after = (command for command, _ in became)
    assert {"run", "--rm", "--no-deps"} < set(before)
    assert before[-3:] == ["imagegen", "doctor", "--json"]
    assert "exec" in after


def test_logs_are_the_service_s_own(clone, engine, pages, became):
    """Its last 200 lines as it wrote them; before the first start there are none."""
    with pytest.raises(Failure, match="no log yet"):
        Compose(clone).logs([])
    Compose(clone).start()
    Compose(clone).logs(["-f"])
    ((command, _),) = became
    assert command[-6:] == [
        "logs", "--no-log-prefix", "--tail", "200", "--follow", "image-service"
    ]  # fmt: skip


@pytest.mark.parametrize("variant", ["cpu", "cuda", "rocm"])
@pytest.mark.parametrize("words", ["--variant {}", "--variant={}"])
def test_a_build_is_of_the_variant_that_is_named(clone, engine, became, variant, words):
    """Its override decides, whatever .env says."""
    Compose(clone).build(words.format(variant).split())
    ((command, environment),) = became
    assert command[-2:] == ["build", "image-service"]
    assert environment["COMPOSE_FILE"].split(":") == compose_files.of(variant)


def test_a_broken_env_is_shown(clone, engine):
    """What compose does not read is told in compose's own words."""
    (engine / "config").write_text("")
    with pytest.raises(Failure, match="does not read"):
        Compose(clone).status()


@pytest.mark.parametrize(
    ("engine_says", "plugin_says", "problem"),
    [
        ("28.5.2", "v2.40.3-3", ""),
        ("", "v2.40.3", "no Docker engine answers"),
        ("24.0.7", "v2.40.3", "older than 25"),
        ("28.5.2", "", "no compose plugin"),
        ("28.5.2", "2.23.1", "older than 2.24"),
    ],
)
def test_an_engine_of_no_use_says_why(engine, engine_says, plugin_says, problem):
    """One that does not answer, is too old, or has no compose leaves the service native."""
    (engine / "engine").write_text(engine_says)
    (engine / "plugin").write_text(plugin_says)
    found = docker.look()
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


def test_a_socket_without_permission_is_told_as_that(engine):
    """The engine is there: what is missing is the user's membership of a group."""
    refusal = "permission denied while trying to connect to the Docker daemon socket"
    (engine / "bin" / "docker").write_text(f"#!/bin/sh\necho '{refusal}' >&2\nexit 1\n")
    found = docker.look()
    assert "may not speak to the Docker engine" in found.problem
    assert "usermod -aG docker" in found.problem


def test_an_engine_elsewhere_is_of_no_use(engine, monkeypatch):
    """Ports and folders of another machine are not those that control.sh speaks of."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@elsewhere")
    assert "another machine" in docker.look().problem


def test_an_engine_elsewhere_by_its_context_is_of_no_use(engine):
    """`docker context use` is another way to the same."""
    (engine / "endpoint").write_text("ssh://somebody@elsewhere")
    assert "another machine" in docker.look().problem


def test_without_docker_there_is_no_engine(monkeypatch, tmp_path):
    """A machine that has no command `docker` has nothing to choose."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker.look() is None
