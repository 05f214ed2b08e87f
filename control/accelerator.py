"""The accelerator of this machine, as its driver tells without anything of ours installed."""

import subprocess
from pathlib import Path

_AMD = "0x1002"


def nvidia_memory() -> list[int]:
    """Return the memory of every NVIDIA card, in MiB; none where nvidia-smi does not work.

    A card that shares the machine's memory tells no figure and counts as 0.
    """
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.strip() for line in answer.stdout.splitlines()]
    # Anything else is a sentence, such as that no devices were found.
    return [
        int(line) if line.isdigit() else 0 for line in lines if line[:1] in set("0123456789[")
    ]


def amd_memory(cards: Path = Path("/sys/class/drm")) -> list[int]:
    """Return the memory of every AMD card, in MiB."""
    found = []
    for device in sorted(cards.glob("card[0-9]*/device")):
        try:
            if (device / "vendor").read_text(encoding="ascii").strip() == _AMD:
                total = (device / "mem_info_vram_total").read_text(encoding="ascii")
                found.append(int(total) // 2**20)
        except (OSError, ValueError):
            continue
    return found
