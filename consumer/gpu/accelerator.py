"""The accelerator as torch sees it: architecture, PCI address and memory, for the parent to tell.

Not run on hardware.
"""

from typing import Any, TypedDict

import torch


class Described(TypedDict):
    """The fields of `Ready` that only an accelerator has."""

    architecture: str
    pci: str
    memory: dict[str, int]


def described(device: torch.device) -> Described:
    """Return what torch tells of a device; empty for a CPU."""
    if device.type == "cpu":
        return Described(architecture="", pci="", memory={})
    properties = torch.cuda.get_device_properties(device)
    return Described(
        architecture=architecture(properties),
        pci=pci_address(properties),
        memory={
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "total": properties.total_memory,
        },
    )


def architecture(properties: Any) -> str:
    """Return `gfx1100` on ROCm, `sm_90` on CUDA."""
    if torch.version.hip:
        # `gfx942:sramecc+:xnack-`
        return str(properties.gcnArchName).partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


def pci_address(properties: Any) -> str:
    """Return the address as the kernel writes it; empty where this torch does not tell it."""
    try:
        domain, bus, slot = (
            int(getattr(properties, f"pci_{part}_id")) for part in ("domain", "bus", "device")
        )
    except (AttributeError, TypeError, ValueError):
        return ""
    # A card computes with its first function; the others are its sound and its USB.
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"
