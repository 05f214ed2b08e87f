"""TLS with certificates on both sides: a broker that lets nobody in who shows none of its CA's."""

import asyncio

import pytest

from imagegen_client import ImageClient, Unavailable
from tests.tls_node import TlsBroker, TlsNode, certificates


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """tls.conf with its two lines changed as its comment says."""
    changes = {"ssl_options.verify": "verify_peer", "ssl_options.fail_if_no_peer_cert": "true"}
    node = TlsNode(tmp_path_factory.mktemp("tls"), **changes)
    node.ensure_running()
    yield TlsBroker(node)
    node.kill()


async def test_a_picture_is_drawn_with_certificates_on_both_sides(broker, serve):
    """Service and client show their certificate, named by parameters of the URL."""
    shown = broker.with_certificate
    service = serve(
        AMQP_URL=broker.tls_url("imagegen-consumer", **shown),
        HTTP_AMQP_URL=broker.tls_url("imagegen-http", **shown),
    )
    await asyncio.to_thread(service.wait_ready)
    async with ImageClient(broker.tls_url(**shown)) as client:
        assert (await client.generate("x", width=256, height=256)).width == 256
    assert service.stop() == 0


@pytest.mark.parametrize("whose", ["nobody's", "another CA's"])
async def test_who_shows_no_certificate_of_the_ca_is_refused(broker, tmp_path, whose):
    """User and password are not enough: the client is told of the broker's alert."""
    shown = {}
    if whose != "nobody's":
        folder = certificates(tmp_path)
        shown = {"certfile": folder / "client.pem", "keyfile": folder / "client.key"}
    async with ImageClient(broker.tls_url(**shown)) as client:
        with pytest.raises(Unavailable, match=r"(?i)alert|reset|closed"):
            await client.generate("x", deadline_s=3)
