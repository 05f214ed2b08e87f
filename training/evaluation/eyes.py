"""Eyes: pixels → background, and the shapes on it with their colour, place and outline."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from training.words import COLOURS

Run = tuple[int, int, int]
"""A row, and the columns of it from the first to before the last."""

SIDE = 128
"""Pixels of the shorter side of the copy that is looked at."""
MASK = 32
"""Pixels of the side of an outline."""
_DIFFERENT = 0.12
"""In OKLab: what is as far from the background belongs to a shape."""
_SMALLEST = 0.0025
"""Parts of the picture; less is a speck."""
_RIM = 0.04

_TO_CONES = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@dataclass(frozen=True)
class Seen:
    """One shape on a background."""

    x: float
    y: float
    """The middle of its box, parts of width and height."""
    area: float
    """Part of the picture."""
    colour: str
    outline: Tensor
    """MASK x MASK, 0..1: what of its own square box it fills."""


def lab(colours: Tensor) -> Tensor:
    """SRGB ... x 3 → OKLab (B. Ottosson), where distances are about what people see."""
    linear = torch.where(
        colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )
    return (linear @ _TO_CONES.T).clamp(min=0).pow(1 / 3) @ _TO_LAB.T


def named(colour: Tensor) -> str:
    """Return the name of the nearest colour."""
    known = lab(torch.tensor(list(COLOURS.values())))
    nearest = (known - lab(colour)).pow(2).sum(-1).argmin()
    return list(COLOURS)[int(nearest)]


def small(picture: Tensor) -> Tensor:
    """3 x h x w → the copy that is looked at."""
    height, width = picture.shape[-2:]
    scale = SIDE / min(height, width)
    size = round(height * scale), round(width * scale)
    return functional.interpolate(picture[None].float().cpu(), size, mode="area")[0]


def background(picture: Tensor) -> Tensor:
    """Return the median colour of the rim."""
    rim = max(2, round(_RIM * SIDE))
    looked = small(picture)
    sides = (looked[:, :rim], looked[:, -rim:], looked[:, :, :rim], looked[:, :, -rim:])
    return torch.cat([side.flatten(1) for side in sides], 1).median(1).values


def shapes(picture: Tensor) -> list[Seen]:
    """Return the shapes on the background, the largest first."""
    looked = small(picture)
    away = (lab(looked.permute(1, 2, 0)) - lab(background(picture))).pow(2).sum(-1).sqrt()
    mask = away > _DIFFERENT
    found = [
        _seen(looked, part) for part in components(mask) if part.float().mean() >= _SMALLEST
    ]
    return sorted(found, key=lambda seen: -seen.area)


def components(mask: Tensor) -> list[Tensor]:
    """Return the connected parts of a mask h x w, each as a mask; corners connect."""
    parts: list[set[Run]] = []
    for row, line in enumerate(mask.tolist()):
        for run in _runs(row, line):
            touching = [part for part in parts if any(_touch(run, other) for other in part)]
            parts = [part for part in parts if part not in touching]
            parts.append({run}.union(*touching))
    found = []
    for part in parts:
        whole = torch.zeros_like(mask)
        for row, start, end in part:
            whole[row, start:end] = True
        found.append(whole)
    return found


def _runs(row: int, line: list[bool]) -> list[Run]:
    """Return what is true without a gap: row, first column, column after the last."""
    edges = [
        column
        for column, (before, here) in enumerate(pairwise([False, *line, False]))
        if before != here
    ]
    return [(row, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _touch(run: Run, other: Run) -> bool:
    row, start, end = run
    above, left, right = other
    return above == row - 1 and start <= right and left <= end


def _seen(looked: Tensor, part: Tensor) -> Seen:
    height, width = part.shape
    rows, columns = part.any(1).nonzero()[:, 0], part.any(0).nonzero()[:, 0]
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    core = part & (functional.avg_pool2d(part[None, None].float(), 3, 1, 1)[0, 0] > 0.99)
    inside = looked[:, core if core.any() else part]
    return Seen(
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        float(part.float().mean()),
        named(inside.median(1).values),
        _outline(part[top:bottom, left:right]),
    )


def _outline(part: Tensor) -> Tensor:
    """Put it in the middle of its square, so that proportions stay."""
    height, width = part.shape
    side = max(height, width)
    square = torch.zeros(1, 1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[0, 0, top : top + height, left : left + width] = part.float()
    sized = functional.interpolate(square, (MASK, MASK), mode="bilinear", align_corners=False)
    return sized[0, 0]


def bands(picture: Tensor) -> Tensor:
    """Return a landscape's colours: 12 rows by 6 columns by mean and spread, as one vector."""
    looked = small(picture)[None]
    mean = functional.adaptive_avg_pool2d(looked, (12, 6))
    square = functional.adaptive_avg_pool2d(looked**2, (12, 6))
    spread = (square - mean**2).clamp(min=0).sqrt()
    return torch.cat([mean, spread], 1).flatten()
