"""TLS: service, client and doctor on a broker with rabbitmq/tls.conf, and what it keeps out."""

import asyncio
import socket
import ssl
import subprocess

import psutil
import pytest

from consumer.doctor.broker import look
from consumer.doctor.broker_verdicts import judge_broker, judge_rights
from consumer.doctor.verdict import Level
from consumer.topology_commands import Aim, check
from imagegen_client import ImageClient, Unavailable
from tests.tls_node import ROOT, TlsBroker, TlsNode, certificates

SMALL = {"width": 256, "height": 256}
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """Takes the place of the broker without TLS."""
    node = TlsNode(tmp_path_factory.mktemp("tls"))
    node.ensure_running()
    yield TlsBroker(node)
    node.kill()


@pytest.fixture(scope="module")
def another_ca(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("others")) / "ca.pem"


async def test_a_picture_is_drawn_over_tls(broker, serve):
    """Service, HTTP face and client on amqps:// URLs with the CA as a parameter."""
    service = serve(
        AMQP_URL=broker.tls_url("imagegen-consumer"),
        HTTP_AMQP_URL=broker.tls_url("imagegen-http"),
    )
    await asyncio.to_thread(service.wait_ready)
    async with ImageClient(broker.tls_url()) as client:
        assert (await client.generate("x", **SMALL)).width == 256
    links = broker.api("connections")
    assert {link["ssl_protocol"] for link in links if link["ssl"]} <= {"tlsv1.3", "tlsv1.2"}
    assert not any(link["user"].startswith("imagegen-") for link in links if not link["ssl"])
    assert service.stop() == 0


async def test_a_broker_of_another_ca_is_not_trusted(broker, serve, another_ca):
    """The client says why within the caller's patience, and the service says it in its log."""
    async with ImageClient(broker.tls_url(cafile=another_ca)) as client:
        with pytest.raises(Unavailable, match=UNTRUSTED):
            await client.generate("x", deadline_s=3)
    service = serve(AMQP_URL=broker.tls_url("imagegen-consumer", cafile=another_ca))
    refused = await asyncio.to_thread(service.wait, "broker_unreachable")
    assert UNTRUSTED in refused["problem"]
    assert service.health()["broker"]["connected"] is False
    assert service.stop() == 0


def test_the_doctor_says_what_is_wrong_with_the_certificate(broker, another_ca):
    """With our CA the broker is well; with another the finding is the certificate's."""

    def examined(**parameters):
        url = broker.tls_url("imagegen-consumer", **parameters)
        found = look(url, "consumer", max_reply_bytes=65_536)
        return judge_broker(found), judge_rights(found)

    assert [verdict.level for verdict in examined()] == [Level.OK, Level.OK]
    verdict, _ = examined(cafile=another_ca)
    assert verdict.level is Level.FAIL
    assert UNTRUSTED in verdict.finding
    assert "certificate" in verdict.remedy


def test_the_management_api_is_spoken_to_over_tls(broker, monkeypatch, another_ca, capsys):
    """`imagegen topology` trusts the CAs of SSL_CERT_FILE, and says which part was not trusted."""
    aim = Aim(broker.tls_management_url("admin"), "imagegen", 20, None, hardened=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(broker.node.certificates / "ca.pem"))
    assert check(aim, rights=True, as_json=False) == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(another_ca))
    assert check(aim, rights=True, as_json=False) == 69
    assert UNTRUSTED in capsys.readouterr().err


def test_certificates_that_cannot_be_made_are_told(tmp_path):
    """In openssl's own words: a common name has 64 characters at most."""
    script = ROOT / "tools" / "rabbitmq_certificates.sh"
    ran = subprocess.run([script, tmp_path, "a" * 65], check=False, capture_output=True)
    assert ran.returncode != 0
    assert b"string too long" in ran.stderr


def test_what_is_older_than_tls_1_2_is_refused(broker):
    """A client that knows no more than TLS 1.1 is told that its version is not spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", broker.node._ports()["tls"])) as link,
        pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"),
    ):
        context.wrap_socket(link)


def test_without_tls_only_this_machine_gets_in(broker):
    """AMQP and the management API without TLS listen on loopback, and nowhere else."""
    spoken = {each["protocol"] for each in broker.api("overview")["listeners"]}
    assert {"amqp/ssl", "https"} <= spoken
    # From the kernel: 3.10 tells [::] of a management API that listens on 127.0.0.1.
    plain = {broker.node.amqp_port, broker.node.management_port}
    listening = {
        (link.laddr.port, link.laddr.ip)
        for link in psutil.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN and link.laddr.port in plain
    }
    assert listening == {(port, "127.0.0.1") for port in plain}
