"""Which processes are ours, and who may change a clone."""

import fcntl
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from control.say import Failure
from control.settings import number, setting
from control.state import Clone, Process, read_record, tail, write_private


def test_a_reused_number_is_not_taken_for_ours(tmp_path):
    """A record whose number belongs to a process of another start names nobody."""
    record = tmp_path / "process.json"
    me = Process.of(os.getpid())
    me.write(record, url="x")
    assert Process.recorded(record) == me
    assert read_record(record)["url"] == "x"
    replace(me, started=f"{me.started}0").write(record)
    assert Process.recorded(record) is None


def test_a_zombie_counts_as_gone():
    """A process that ended is gone, though nobody has asked for its exit code yet."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        process = Process.of(child.pid)
        assert process.alive()
        child.stdin.close()
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.alive()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}', '{"pid": 1}'])
def test_a_broken_record_names_nobody(tmp_path, text):
    """A record that was cut off or is of another kind is as good as none."""
    (tmp_path / "process.json").write_text(text)
    assert Process.recorded(tmp_path / "process.json") is None


def test_secrets_are_for_their_owner_only(tmp_path):
    """What is written privately is not readable for others, also where it replaces a file."""
    path = tmp_path / "secrets.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time_changes_a_clone(tmp_path):
    """While one holds the clone, another cannot; afterwards it can."""
    clone = Clone(tmp_path)
    with clone.locked():
        other = (tmp_path / ".imagegen" / "run" / "lock").open("w")
        with other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / ".imagegen" / "run" / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_tail_begins_after_a_byte(tmp_path):
    """Only lines of this start are shown as its last words."""
    log = tmp_path / "log"
    log.write_text("old\nnew\nnewer\n")
    assert tail(log, 5, since=4) == ["new", "newer"]
    assert tail(log, 1) == ["newer"]
    assert tail(tmp_path / "missing", 5) == []


def test_a_setting_may_stand_in_a_file(tmp_path):
    """As in the service, IMAGE_GEN_X_FILE names a file with the value, and empty is not given."""
    (tmp_path / "url").write_text("amqp://there\n")
    environment = {"IMAGE_GEN_AMQP_URL": "", "IMAGE_GEN_AMQP_URL_FILE": str(tmp_path / "url")}
    assert setting("AMQP_URL", environment) == "amqp://there"
    assert setting("MODEL", environment) is None


def test_a_number_that_is_none_is_told():
    """A setting that should be a number and is not gives a sentence with its name."""
    with pytest.raises(Failure) as failure:
        number("PORT", 8034, {"IMAGE_GEN_PORT": "http"})
    assert "IMAGE_GEN_PORT" in failure.value.sentence
