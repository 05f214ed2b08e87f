"""The HTTP face before schemathesis: thousands of requests, good and bad, against a real service."""

import subprocess
import sys

import pytest

from tests.serving import ROOT

TOKEN = "let-me-in"
PATIENCE_S = 1800


def check(service, *words):
    """Run the check on a service; returns its exit code. What it prints is shown (pytest -s)."""
    command = [
        sys.executable,
        "-m",
        "tools.api_check",
        "--url",
        f"http://127.0.0.1:{service.port}",
    ]
    done = subprocess.run([*command, *words], cwd=ROOT, timeout=PATIENCE_S, check=False)
    return done.returncode


@pytest.mark.timeout(PATIENCE_S)
def test_nothing_is_answered_that_the_document_does_not_say(serve):
    """5,000 requests to all operations: no crash, no broken schema, no status that is not told of."""
    # A model with guidance, so that every request that the schema allows can be drawn.
    service = serve(GUIDANCE_SCALE=4).wait_ready()
    assert check(service, "--cases", "500", "--at-least", "5000") == 0


@pytest.mark.timeout(PATIENCE_S)
def test_a_token_is_asked_for_wherever_the_document_says_so(serve):
    """Every operation of the job API refuses no token and a wrong one, and takes the right one."""
    service = serve(GUIDANCE_SCALE=4, API_TOKEN=TOKEN).wait_ready()
    assert check(service, "--cases", "60", "--token", TOKEN) == 0
