"""The nodes: RabbitMQ as the bench needs it, with a memory alarm at will."""

import subprocess
from pathlib import Path

from control.node import Node, server

FULL_WATERMARK, TINY_WATERMARK = 0.4, 0.00001
"""Of the machine's memory: RabbitMQ's default, and one that is always exceeded."""


class ForgetfulNode(Node):
    """A node that can be told to run out of memory."""

    def set_watermark(self, fraction: float) -> None:
        """Set the memory above which publishers are blocked, as a fraction of the machine's."""
        self.ctl("eval", f"vm_memory_monitor:set_vm_memory_high_watermark({fraction:.6f}).")

    def ctl(self, *arguments: str) -> str:
        """Return what rabbitmqctl says.

        Raises:
            subprocess.CalledProcessError: it could not be done.
        """
        program = Path(server() or "rabbitmq-server").with_name("rabbitmqctl")
        loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
        return subprocess.run(
            [program, "--node", self.name, *arguments],
            env=self._environment() | {"RABBITMQ_CTL_ERL_ARGS": loopback_only},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
