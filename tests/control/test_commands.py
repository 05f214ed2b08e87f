"""The command line of control.sh."""

import subprocess
from pathlib import Path

CONTROL = Path(__file__).resolve().parent.parent.parent / "control.sh"


def control(*arguments, cwd):
    """Run control.sh in a folder."""
    return subprocess.run(
        [CONTROL, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_help_works_from_any_folder(tmp_path):
    """The caller's folder does not matter, nor do the modules in it."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    (tmp_path / "control.py").write_text("raise SystemExit('the wrong control')")
    answer = control("help", cwd=tmp_path)
    assert answer.returncode == 0
    assert "image generate" in answer.stdout
    assert "image doctor" in answer.stdout


def test_a_word_that_is_none_gets_the_usage(tmp_path):
    """What is not understood changes nothing and is answered with the usage, as an error."""
    for words in (["imagine"], ["image"], ["image", "doctor", "x"], ["setup", "all"], []):
        answer = control(*words, cwd=tmp_path)
        assert answer.returncode == 2
        assert answer.stdout == ""
        assert "usage:" in answer.stderr
