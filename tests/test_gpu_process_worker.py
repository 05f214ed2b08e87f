"""The GPU child by itself: what it makes of the messages of a parent that the test plays."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.gpu.protocol import (
    PREFIX_BYTES,
    Begun,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Loading,
    Ready,
    Step,
    Stopped,
    decode,
    encode,
    lengths,
)
from consumer.gpu.worker import EXIT_DEVICE_LOST, EXIT_PROTOCOL

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60
FORWARDS = 3


class Parent:
    """Speaks to one child over its socket."""

    def __init__(self):
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(PATIENCE_S)
        with theirs:
            fd = str(theirs.fileno())
            self.child = subprocess.Popen(
                [sys.executable, "-m", "consumer.gpu.worker", "--fd", fd],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )

    def send(self, *messages):
        self.connection.sendall(b"".join(encode(message) for message in messages))

    def hear(self):
        header, payload = lengths(self._exactly(PREFIX_BYTES))
        message = decode(self._exactly(header))
        self._exactly(payload)
        return message

    def hear_until(self, kind):
        """What is said up to the first message of this kind."""
        heard = [self.hear()]
        while not isinstance(heard[-1], kind):
            heard.append(self.hear())
        return heard

    def _exactly(self, count):
        received = b""
        while len(received) < count:
            chunk = self.connection.recv(count - len(received))
            if not chunk:
                raise EOFError
            received += chunk
        return received

    def ended(self):
        """The exit code and the complaints of a child that leaves."""
        complaints = self.child.communicate(timeout=PATIENCE_S)[1]
        return self.child.returncode, complaints


@pytest.fixture
def parent():
    parent = Parent()
    with parent.connection, parent.child:
        parent.send(
            Load("tests.pipelines:Scripted", "scripted", None, "cpu", "auto", "/nowhere")
        )
        parent.hear_until(Ready)
        yield parent
        parent.child.kill()


def command(prompt="x", job_id="job-1"):
    return Generate(job_id, prompt, 64, 48, 7, FORWARDS, 0.0)


def test_a_picture_is_told_stage_by_stage(parent):
    """Its beginning, each step, the end of the last one: no silence covers two stages."""
    parent.send(command())
    *news, done = parent.hear_until(Done)
    assert news == [
        Begun("job-1", "text_encode"),
        *(Step("job-1", step, FORWARDS) for step in range(1, FORWARDS + 1)),
        Begun("job-1", "vae_decode"),
    ]
    assert done.memory["resident"] > 1 << 20


def test_a_cancel_after_its_picture_meets_no_later_one_of_the_same_job(parent):
    """One that crossed the end of its picture is void: the job drawn again is drawn."""
    parent.send(command())
    parent.hear_until(Done)
    parent.send(Cancel("job-1"), command())
    assert isinstance(parent.hear_until((Done, Stopped))[-1], Done)


def test_a_cancel_reaches_a_picture_that_waits_in_the_inbox(parent, gate):
    """It is stopped before its first step, and told so."""
    parent.send(command(f"wait={gate.path}", "first"), command("x", "second"), Cancel("second"))
    gate.reached()
    gate.open()
    parent.hear_until(Done)
    assert parent.hear_until(Stopped) == [Begun("second", "text_encode"), Stopped("second", 0)]


def test_a_cancel_of_somebody_else_is_void(parent):
    """Only the picture it names is stopped."""
    parent.send(command(), Cancel("job-2"))
    assert isinstance(parent.hear_until((Done, Stopped))[-1], Done)


def test_a_cancel_during_the_last_step_saves_the_decode(parent, gate):
    """A stop is seen between the stages too."""
    parent.send(Generate("job-1", f"wait={gate.path} step=0.3", 64, 48, 7, 2, 0.0))
    gate.reached()  # at the first step
    parent.send(Cancel("job-1"))
    gate.open()
    assert parent.hear_until((Done, Stopped))[-1] == Stopped("job-1", 2)


def test_a_flat_picture_is_none(parent):
    """Whatever the pipeline, one colour from edge to edge is told as what it comes from."""
    parent.send(command("flat"))
    assert parent.hear_until(Failed)[-1] == Failed(
        "job-1", "nan_output", "The picture is one flat colour."
    )


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 64, encode(Loading("not for a child"))], ids=["noise", "wrong way"]
)
def test_a_parent_that_talks_nonsense_is_left(parent, garbage):
    """The child cannot know what is wanted of it: it says so, and makes room for another."""
    parent.connection.sendall(garbage)
    code, complaints = parent.ended()
    assert code == EXIT_PROTOCOL
    assert "ProtocolError" in complaints


def test_a_lost_device_ends_the_child(parent):
    """Nothing more can be had of a process with a broken context; its steps were told before."""
    parent.send(command("lost"))
    assert parent.hear() == Begun("job-1", "text_encode")
    code, complaints = parent.ended()
    assert code == EXIT_DEVICE_LOST
    assert "DeviceLostError" in complaints


@pytest.mark.parametrize("prompt", ["x", "hang", "stuck_stage=vae"])
def test_a_child_leaves_with_its_parent(parent, prompt):
    """The end of the socket is the end of the child, idle, or deep in a picture."""
    parent.send(command(prompt))
    parent.hear_until(Step)
    parent.connection.shutdown(socket.SHUT_RDWR)
    assert parent.ended()[0] == os.EX_OK
