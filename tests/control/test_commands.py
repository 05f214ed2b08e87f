"""The command line of control.sh."""

import os
import subprocess
from pathlib import Path

from control import __main__ as command_line

CONTROL = Path(__file__).resolve().parent.parent.parent / "control.sh"


def control(*arguments, cwd, **environment):
    """Run control.sh in a folder."""
    return subprocess.run(
        [CONTROL, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_works_from_any_folder(tmp_path):
    """The caller's folder does not matter, nor do the modules in it."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    (tmp_path / "control.py").write_text("raise SystemExit('the wrong control')")
    answer = control("help", cwd=tmp_path)
    assert answer.returncode == 0
    assert "image generate" in answer.stdout
    assert "image doctor" in answer.stdout


BUILDS = (["image", "build", "cpu"], ["image", "build", "--variant", "tpu"])


def test_a_word_that_is_none_gets_the_usage(tmp_path):
    """What is not understood changes nothing and is answered with the usage, as an error."""
    for words in (
        ["imagine"],
        ["image"],
        ["image", "doctor", "x"],
        ["setup", "all"],
        *BUILDS,
        [],
    ):
        answer = control(*words, cwd=tmp_path)
        assert answer.returncode == 2
        assert answer.stdout == ""
        assert "usage:" in answer.stderr


def test_an_image_needs_an_engine(tmp_path):
    """Natively there is nothing to build an image with, and what helps is told."""
    for words in (["image", "build"], ["image", "build", "--variant", "cpu"]):
        answer = control(*words, cwd=tmp_path, IMAGE_GEN_RUN="native")
        assert answer.returncode == 1
        assert "built by a Docker engine" in answer.stderr
        assert "./control.sh init" in answer.stderr


def test_an_engine_that_does_not_answer_is_told_in_one_line(tmp_path):
    """Docker that is stopped is no obstacle: what follows is native, and says so."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    answer = control("image", "build", cwd=tmp_path, PATH=path, IMAGE_GEN_RUN="")
    # The reason is another one where the service of this clone runs right now.
    first, *_ = answer.stderr.splitlines()
    assert first.startswith("Natively: ")


def test_a_place_that_is_none_is_refused(tmp_path):
    """A misspelt IMAGE_GEN_RUN starts nothing anywhere."""
    answer = control("image", "start", cwd=tmp_path, IMAGE_GEN_RUN="podman")
    assert answer.returncode == 1
    assert "native or compose" in answer.stderr


def test_the_service_never_hears_of_the_place(monkeypatch):
    """It would refuse IMAGE_GEN_RUN as no setting of its own."""
    monkeypatch.setenv("IMAGE_GEN_RUN", "native")
    command_line._place()
    assert "IMAGE_GEN_RUN" not in os.environ
