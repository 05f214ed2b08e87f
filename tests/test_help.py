"""Help: quick, and there where neither torch nor the service is installed."""

import subprocess
import sys

import pytest

IMPORTS = """
import sys
from consumer.__main__ import app
sys.argv = ["imagegen", *sys.argv[1:]]
try:
    app()
finally:
    heavy = {"torch", "diffusers", "transformers", "sqlalchemy", "aio_pika", "opentelemetry"}
    print("heavy:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
WITHOUT_SERVICE = """
import sys
for name in ("torch", "diffusers", "transformers", "sqlalchemy", "structlog"):
    sys.modules[name] = None
from consumer.__main__ import app
sys.argv = ["imagegen", *sys.argv[1:]]
app()
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    """Neither torch nor diffusers, nor what the service is made of."""
    ran = run(IMPORTS, *arguments)
    assert ran.stderr.splitlines()[-1] == "heavy:", ran.stderr
    assert "doctor" in ran.stdout


def test_without_the_service_the_doctor_says_so():
    """A caller's installation has no doctor: a sentence with the remedy, no traceback."""
    ran = run(WITHOUT_SERVICE, "doctor")
    assert ran.returncode == 1
    assert "./control.sh setup" in ran.stderr
    assert "Traceback" not in ran.stderr
