"""Replies to places that cannot be replied to: the one request is given up, not the service."""

import pytest

from tests.rpc import Requester

SMALL = {"prompt": "x", "width": 256, "height": 256}
FORGED = [
    "amq.rabbitmq.reply-to.g2dkAAAA.x==",
    "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3OAAAAAAAAAAAAAAAAA==.5gAu1Yn0rJH3Tm8xUuZE7w==",
]
"""Looks like the broker's own, but what is in it is no process: it breaks the broker's decoder."""


@pytest.fixture
def service(house):
    """A ready service with the scripted pipeline, shared by the tests of this file."""
    return house.service()


@pytest.mark.parametrize("reply_to", FORGED)
async def test_a_forged_direct_reply_is_given_up(service, channel, reply_to):
    """A reply_to on which the broker breaks is tried twice, then acked; the next one is served."""
    requester = await Requester(channel).start()
    await requester.publish(SMALL, reply_to=reply_to, message_id=f"forged-{len(reply_to)}")
    assert (await requester.ask(SMALL))["success"]
    # From 4.0 on the broker takes it, and knows nobody to give it to.
    known = service.health()["broker"]["version"].startswith("3.")
    word = "refused" if known else "confirmed"
    assert service.wait("settled", job_id=f"forged-{len(reply_to)}", reply=word)
    assert service.health()["broker"]["connected"]
