"""How the service is kept running."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Counts its starts in a file and tells each; then does what the test is about.
PROGRAM = """
import pathlib, signal, sys
starts = pathlib.Path(sys.argv[1])
count = len(starts.read_text()) + 1 if starts.exists() else 1
starts.write_text("x" * count)
def say(text): print(text, flush=True)
"""
SUPERVISE = """
import pathlib, sys
from control.supervisor import Supervisor
record, *command = sys.argv[1:]
sys.exit(Supervisor(command, pathlib.Path(record), 0, first_pause_s=0.01, force_s=0.5).run())
"""


@pytest.fixture
def supervise(tmp_path):
    """Start a supervisor over a program; its lines can be read."""
    started = []

    def start(body):
        program = [sys.executable, "-c", PROGRAM + body, str(tmp_path / "starts")]
        arguments = [str(tmp_path / "serve.json"), *program]
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()


def record(tmp_path):
    """Return what the supervisor tells of its program."""
    return json.loads((tmp_path / "serve.json").read_text())


def test_a_program_that_dies_is_started_again(supervise, tmp_path):
    """Deaths are answered with new starts, which are counted, until it leaves with 0."""
    supervisor = supervise("say(count); sys.exit(0 if count == 3 else 1)")
    output, _ = supervisor.communicate()
    lines = [line for line in output.splitlines() if not line.startswith("control.sh:")]
    assert lines == ["1", "2", "3"]
    assert supervisor.returncode == 0
    assert record(tmp_path) == {"code": 0}


def test_wrong_settings_are_not_tried_again(supervise, tmp_path):
    """A program that leaves with 78 would do so again: it is started once."""
    supervisor = supervise("say(count); sys.exit(78)")
    output, _ = supervisor.communicate()
    assert output == "1\n"
    assert supervisor.returncode == 78
    assert record(tmp_path) == {"code": 78}


def test_asked_to_end_it_lets_the_program_finish(supervise, tmp_path):
    """SIGTERM reaches the program, which has its time, and nothing is started again."""
    supervisor = supervise(
        "signal.signal(signal.SIGTERM, lambda *_: (say('finished'), sys.exit(1)));"
        "say('up'); signal.pause()"
    )
    assert supervisor.stdout.readline() == "up\n"
    assert record(tmp_path)["restarts"] == 0
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.stdout.read() == "finished\n"
    assert supervisor.wait() == 0


def test_asked_to_end_in_a_pause_it_ends(supervise, tmp_path):
    """Between a death and the next start, too, SIGTERM ends it at once."""
    supervisor = supervise("sys.exit(1)")
    # After eight deaths the pauses are longer than a second.
    for line in supervisor.stdout:
        if "again in 1.28 s" in line:
            break
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.stdout.read() == ""
    assert supervisor.wait() == 0
    assert record(tmp_path) == {"code": 1}


def test_the_end_is_asked_for_twice_and_then_made(supervise):
    """A program that goes on after its time is asked again, and killed if that does not help."""
    supervisor = supervise(
        "signal.signal(signal.SIGTERM, lambda *_: say('asked'));"
        "say('up'); [signal.pause() for _ in range(3)]; say('left')"
    )
    assert supervisor.stdout.readline() == "up\n"
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.stdout.read() == "asked\nasked\n"
    assert supervisor.wait() == 0
