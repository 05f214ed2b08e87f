"""A broker with TLS as rabbitmq/tls.conf has it, with certificates made for the test."""

import subprocess
from pathlib import Path
from urllib.parse import quote

from control import definitions, loopback
from control.node import RABBITMQ, Node
from tests.conftest import Broker

ROOT = Path(__file__).resolve().parent.parent
PLACES = {
    "cacertfile": "ca.pem",
    "certfile": "server.pem",
    "keyfile": "server.key",
}


def certificates(folder):
    """Make certificates of a CA of their own; returns the folder."""
    script = ROOT / "tools" / "rabbitmq_certificates.sh"
    subprocess.run([script, folder], check=True, capture_output=True)
    return folder


class TlsNode(Node):
    """Our node with the lines of tls.conf on top, its ports and paths apart."""

    def __init__(self, folder, **changes):
        any_ports = dict.fromkeys(("amqp", "management", "prometheus", "distribution"), 0)
        super().__init__(folder, preferred_ports={**any_ports, "tls": 0, "tls_management": 0})
        # Below the node's folder, which is what a server in a chroot sees.
        self.certificates = certificates(folder / "certificates")
        self._changes = changes

    def _configuration(self):
        ports = self._ports()
        ours = super()._configuration() | {
            "listeners.ssl.1": f"{loopback.ADDRESS}:{ports['tls']}",
            "management.ssl.ip": loopback.ADDRESS,
            "management.ssl.port": str(ports["tls_management"]),
            **{
                f"{part}.{name}": str(self.certificates / file)
                for part in ("ssl_options", "management.ssl")
                for name, file in PLACES.items()
            },
            **self._changes,
        }
        return _lines(definitions.configuration((RABBITMQ / "tls.conf").read_text(), ours))


def _lines(text):
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs if name[0] != "#"}


class TlsBroker(Broker):
    """A broker that is reached over TLS."""

    def tls_url(self, user="chat-backend", **parameters):
        """With the CA, unless another is told, and with more parameters of aiormq's."""
        given = {"cafile": self.node.certificates / "ca.pem", **parameters}
        query = "&".join(f"{name}={quote(str(value))}" for name, value in given.items())
        plain = self.url(user)
        host = f"{loopback.ADDRESS}:{self.node._ports()['tls']}"
        return f"amqps://{plain.split('://')[1].partition('@')[0]}@{host}/imagegen?{query}"

    def tls_management_url(self, user):
        """The management API over TLS."""
        login = self.node.management_url(user).split("://")[1].partition("@")[0]
        return f"https://{login}@{loopback.ADDRESS}:{self.node._ports()['tls_management']}"

    @property
    def with_certificate(self):
        """The parameters of a client that has one."""
        folder = self.node.certificates
        return {"certfile": folder / "client.pem", "keyfile": folder / "client.key"}
