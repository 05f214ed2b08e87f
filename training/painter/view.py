"""What a kind of stroke sees: its pixels' places, the picture so far, and noise that repeats.

Lengths are parts of the picture's shorter side, from its upper left corner, y downwards: one
picture is the same at every size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Paint = tuple[Tensor, Tensor]
"""Colour n x 3 x h x w and cover n x 1 x h x w, 0..1, as far as they differ between pixels."""


@dataclass(frozen=True)
class View:
    """The pixels of n pictures that one stroke each may touch."""

    x: Tensor
    """n x 1 x 1 x w, of the pixels' middles."""
    y: Tensor
    """n x 1 x h x 1."""
    scale: float
    """Pixels of the shorter side."""
    canvas: Tensor
    """n x 3 x h x w, 0..1, as painted so far."""

    def cover(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Turn a signed distance (negative inside) into cover, smooth over `softness` pixels."""
        return (0.5 - distance * (self.scale / softness)).clamp(0, 1)


def rgb(values: tuple[Tensor, ...]) -> Tensor:
    """Three numbers a picture → n x 3 x 1 x 1."""
    return torch.cat(values, 1)


def noise(cell: Tensor, seed: Tensor) -> Tensor:
    """A number in 0..1 for each whole number, which looks like chance."""
    return torch.frac((torch.sin(cell * 12.9898 + seed * 78.233) * 437.5453).abs())


def smooth_noise(place: Tensor, seed: Tensor) -> Tensor:
    """Noise between whole numbers, without corners."""
    cell = place.floor()
    part = place - cell
    part = part * part * (3 - 2 * part)
    return torch.lerp(noise(cell, seed), noise(cell + 1, seed), part)


def noise_2d(x: Tensor, y: Tensor, seed: Tensor) -> Tensor:
    """Smooth noise over the plane: patches about as large as one unit."""
    row = y.floor()
    part = y - row
    part = part * part * (3 - 2 * part)
    return torch.lerp(
        smooth_noise(x, seed + 0.37 * torch.remainder(row, 97)),
        smooth_noise(x, seed + 0.37 * torch.remainder(row + 1, 97)),
        part,
    )


def step(edge: float, other: float, value: Tensor) -> Tensor:
    """0 at `edge`, 1 at `other`, smooth between."""
    part = ((value - edge) / (other - edge)).clamp(0, 1)
    return part * part * (3 - 2 * part)
