"""The torch that is installed, as it tells of itself in a process of its own, which may hang."""

import json
import subprocess
import sys
from dataclasses import dataclass

LIMIT_S = 60.0
"""An import of torch from a cold disk takes tens of seconds."""

_ASK = """
import json, torch
devices = []
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        arch = getattr(about, "gcnArchName", "").partition(":")[0]
        devices.append({
            "name": about.name,
            "memory_bytes": about.total_memory,
            "arch": arch or f"sm_{about.major}{about.minor}",
        })
print("\\n" + json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "hip": torch.version.hip,
    "devices": devices,
    "archs": torch.cuda.get_arch_list(),
}))
"""


@dataclass(frozen=True, slots=True)
class Device:
    """A card as torch sees it."""

    name: str
    memory_bytes: int
    arch: str
    """`sm_89`, or `gfx1100`."""


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What torch was built for, and what it sees."""

    version: str
    cuda: str | None
    hip: str | None
    devices: tuple[Device, ...]
    archs: tuple[str, ...]
    """What it has kernels for, as far as it tells."""

    @property
    def variant(self) -> str:
        """`cuda`, `rocm` or `cpu`, as IMAGE_GEN_VARIANT has it."""
        return "rocm" if self.hip else "cuda" if self.cuda else "cpu"


@dataclass(frozen=True, slots=True)
class NoTorch:
    """It cannot be imported; the last line of its complaint."""

    problem: str


def ask(program: str = _ASK, limit_s: float = LIMIT_S) -> TorchBuild | NoTorch:
    """Ask torch in a process of its own.

    Raises:
        TimeoutError: it did not answer in time: the driver hangs.
    """
    command = [sys.executable, "-c", program]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said, complaint = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            # Leaving the block waits for its end: for ever, where the driver holds it.
            process.kill()
            raise TimeoutError(f"torch did not answer within {limit_s:g} s") from None
    if process.returncode:
        return NoTorch((complaint.strip().splitlines() or [f"exit {process.returncode}"])[-1])
    told = json.loads(said.strip().splitlines()[-1])
    devices = tuple(Device(**device) for device in told["devices"])
    return TorchBuild(told["version"], told["cuda"], told["hip"], devices, tuple(told["archs"]))
