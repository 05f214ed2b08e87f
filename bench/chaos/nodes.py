"""The nodes: RabbitMQ as the bench needs it, with fresh figures, a memory alarm, and clusters."""

import os
import subprocess
from pathlib import Path
from typing import Any

from typing_extensions import override

from control import loopback
from control.node import Node, server

FULL_WATERMARK, TINY_WATERMARK = 0.4, 0.00001
"""Of the machine's memory: RabbitMQ's default, and one that is always exceeded."""


class FreshNode(Node):
    """A node whose figures are half a second old at most, and that can be told to run out of memory."""

    name = "imagegen@localhost"

    @override
    def _configuration(self) -> dict[str, str]:
        # Whether a queue is empty is asked after every fault.
        return super()._configuration() | {"collect_statistics_interval": "500"}

    def set_watermark(self, fraction: float) -> None:
        """Set the memory above which publishers are blocked, as a fraction of the machine's."""
        self.ctl("eval", f"vm_memory_monitor:set_vm_memory_high_watermark({fraction:.6f}).")

    def ctl(self, *arguments: str) -> str:
        """Return what rabbitmqctl says."""
        program = Path(server() or "").resolve().with_name("rabbitmqctl")
        for folder in ("/usr/lib/rabbitmq/bin",):
            # Debian's in /usr/sbin changes the user and forgets the environment.
            if (Path(folder) / "rabbitmqctl").exists():
                program = Path(folder) / "rabbitmqctl"
        done = subprocess.run(
            [program, "--node", self.name, *arguments],
            env=self._environment()
            | {"RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout
