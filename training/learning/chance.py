"""Chance that a number settles: what is drawn at a step depends on seed and step alone.

So a run that was killed goes on as if it had not been, without keeping any generator's state.
"""

import hashlib

import torch


def number(*parts: object) -> int:
    """Return a number of 63 bits, the same for the same parts everywhere."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(device: str, *parts: object) -> torch.Generator:
    """Return a generator on the device, seeded by the parts."""
    return torch.Generator(device).manual_seed(number(*parts))
