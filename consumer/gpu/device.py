"""The device: which one torch draws on, what fits on it, and what is peculiar to it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from consumer.gpu.pipeline import LoadError

ACTIVATION_BYTES = 4 << 30
"""Room for activations at 1024x1024 in bf16, transformer and VAE (estimate from the shapes)."""


def device_named(name: str) -> torch.device:
    """Return the device of a setting; `auto` is a GPU where there is one. Raises LoadError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise LoadError(
            f"IMAGE_GEN_DEVICE={name}, but this torch ({torch.__version__}) sees no GPU. Install "
            "the build for your card, check the driver, or set IMAGE_GEN_DEVICE=cpu.",
            permanent=True,
        )
    return torch.device(name)


def name_of(device: torch.device) -> str:
    """Return what its maker calls it."""
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


def placement(part_bytes: dict[str, int], free_bytes: int) -> str:
    """Return `fast`, `balanced` or `low` for parts of these sizes on a card with this room."""
    if sum(part_bytes.values()) + ACTIVATION_BYTES <= free_bytes:
        return "fast"
    if max(part_bytes.values()) + ACTIVATION_BYTES <= free_bytes:
        return "balanced"
    return "low"


def backend() -> str:
    """Return the compute platform of this build of torch."""
    if torch.version.hip:
        return f"rocm {torch.version.hip}"
    return f"cuda {torch.version.cuda}" if torch.version.cuda else "cpu"


def component_bytes(pipe: Any) -> dict[str, int]:
    """Return the bytes of the parameters of each part of a diffusers pipeline."""
    return {
        name: sum(tensor.numel() * tensor.element_size() for tensor in part.parameters())
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
    }


def memory_of(device: torch.device) -> dict[str, int]:
    """Return the bytes that torch holds on it now, and held at most; nothing of a CPU."""
    if device.type == "cpu":
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "peak": torch.cuda.max_memory_allocated(device),
    }


@contextlib.contextmanager
def vae_attention(device: torch.device) -> Iterator[None]:
    """Keep the VAE's attention off the flash kernels of gfx11.

    With its head dimension of 512 they can be silently wrong (pytorch issue 189849).
    """
    if device.type == "cuda" and torch.version.hip:
        arch = torch.cuda.get_device_properties(device).gcnArchName
        if arch.startswith("gfx11"):
            with sdpa_kernel(SDPBackend.MATH):
                yield
                return
    yield
