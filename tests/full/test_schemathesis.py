"""The HTTP face before schemathesis: thousands of requests, good and bad, to a real service."""

import sys

import pytest

from tests.test_api_check import check

TOKEN = "a-token-of-this-test"
PATIENCE_S = 3600


def asked(service, *words):
    """Run the check, show what it says (pytest --capture=no), and return its exit code."""
    code, said = check(service.port, *words, timeout=PATIENCE_S)
    sys.stdout.write(said)
    return code


@pytest.mark.timeout(PATIENCE_S)
def test_nothing_is_answered_that_the_document_does_not_say(serve):
    """5,000 requests to all operations: no crash, no broken schema, no status that is not told of."""
    # A model with guidance, so that every request that the schema allows can be drawn.
    service = serve(GUIDANCE_SCALE=4).wait_ready()
    assert asked(service, "--cases", "750", "--at-least", "5000") == 0


@pytest.mark.timeout(PATIENCE_S)
def test_a_token_is_asked_for_wherever_the_document_says_so(serve):
    """Every operation of the job API refuses no token and a wrong one, and takes the right one."""
    service = serve(GUIDANCE_SCALE=4, API_TOKEN=TOKEN).wait_ready()
    assert asked(service, "--cases", "60", "--token", TOKEN) == 0
