"""One stroke of a picture, and the kinds of strokes there are."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from training.painter import figures, grounds, skies
from training.painter.view import Paint, View
from training.words import Rgb

KINDS: dict[str, Callable[[View, tuple[Tensor, ...]], Paint]] = {
    kind.__name__: kind
    for kind in (
        skies.plain,
        skies.gradient,
        skies.glow,
        skies.stars,
        skies.cloud,
        skies.overcast,
        skies.rain,
        skies.flakes,
        skies.beam,
        grounds.ridge,
        grounds.water,
        grounds.glitter,
        grounds.pines,
        grounds.skyline,
        grounds.flowers,
        grounds.stripes,
        grounds.checkers,
        grounds.dots,
        figures.polygon,
        figures.ellipse,
        figures.ring,
        figures.line,
        figures.heart,
    )
}


@dataclass(frozen=True)
class Stroke:
    """One stroke: its kind, the numbers that the kind asks for, and where it stays within."""

    kind: str
    values: tuple[float, ...]
    box: tuple[float, float, float, float] | None = None
    """Middle x and y, half the width and half the height; None: anywhere."""

    def group(self, scale: float) -> tuple[str, int, int]:
        """Return what strokes that may be painted together have in common.

        The kind, and how many pixels wide and high they are, rounded up to a power of two; 0 for
        the whole picture.
        """
        if self.box is None:
            return self.kind, 0, 0
        return self.kind, _power(2 * self.box[2] * scale), _power(2 * self.box[3] * scale)


@dataclass(frozen=True)
class Paper:
    """The extent of a picture in lengths of its shorter side, and its chances."""

    width: float
    height: float
    chance: random.Random

    def between(self, low: float, high: float) -> float:
        """Draw a number by lot."""
        return self.chance.uniform(low, high)

    def seed(self) -> float:
        """Draw a seed for noise: small, so that float32 keeps its digits."""
        return float(self.chance.randrange(1, 200))


def polygon(points: list[tuple[float, float]], colour: Rgb) -> Stroke:
    """A polygon of at most `figures.CORNERS` corners."""
    padded = [*points, *[points[-1]] * (figures.CORNERS - len(points))]
    return Stroke(
        "polygon", (*[v for point in padded for v in point], *colour), _around(points, 0.01)
    )


def ellipse(x: float, y: float, across: float, down: float, colour: Rgb) -> Stroke:
    """An ellipse with its two radii."""
    return Stroke("ellipse", (x, y, across, down, *colour), (x, y, across + 0.01, down + 0.01))


def line(
    start: tuple[float, float], end: tuple[float, float], width: float, colour: Rgb
) -> Stroke:
    """A line with round ends."""
    return Stroke("line", (*start, *end, width / 2, *colour), _around([start, end], width))


def _around(
    points: list[tuple[float, float]], margin: float
) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    half_width, half_height = (right - left) / 2 + margin, (bottom - top) / 2 + margin
    return (left + right) / 2, (top + bottom) / 2, half_width, half_height


def _power(pixels: float) -> int:
    return 1 << max(3, math.ceil(math.log2(pixels + 2)))
