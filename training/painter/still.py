"""Coloured shapes and patterns: which strokes they are."""

import math

from training.painter import strokes
from training.painter.strokes import Paper, Stroke
from training.scenes import Pattern, Shape, Still
from training.words import COLOURS, PLACES, Rgb

_RADII = {"small": 0.12, "": 0.21, "big": 0.33}
_RADIUS_OF_PLACED = 0.165
_RADII_OF_SEVERAL = {2: 0.165, 3: 0.105}
_ROW_OF_THREE = {"left": 0.2, "center": 0.5, "right": 0.8}
"""A little wider than their places, so that no two touch."""
_OFF = 0.022
"""How far from its named place a shape may be, in parts of the shorter side."""


def still(scene: Still, paper: Paper) -> list[Stroke]:
    """The strokes of shapes on a background."""
    painted = [Stroke("plain", _shade(COLOURS[scene.background], paper))]
    for shape in scene.shapes:
        painted += _shape(shape, len(scene.shapes), paper)
    return painted


def pattern(scene: Pattern, paper: Paper) -> list[Stroke]:
    """The strokes of two colours all over."""
    first, second = (_shade(COLOURS[name], paper) for name in (scene.first, scene.second))
    apart, phase = paper.between(0.2, 0.34), paper.between(0, 1)
    match scene.name:
        case "vertical stripes":
            over = Stroke("stripes", (1.0, apart, phase, *first))
        case "horizontal stripes":
            over = Stroke("stripes", (0.0, apart, phase, *first))
        case "checkers":
            over = Stroke("checkers", (apart * 1.5, phase, *first))
        case _:
            over = Stroke("dots", (apart, phase, *first))
    return [Stroke("plain", second), over]


def _shade(colour: Rgb, paper: Paper) -> Rgb:
    red, green, blue = (min(1.0, max(0.0, v + paper.between(-0.03, 0.03))) for v in colour)
    return red, green, blue


def _shape(shape: Shape, count: int, paper: Paper) -> list[Stroke]:
    across, down = PLACES[shape.place]
    if count == 3:
        across = _ROW_OF_THREE[shape.place]
    radius = _RADII_OF_SEVERAL[count] if count > 1 else _RADII[shape.size]
    if count == 1 and shape.place != "center":
        radius = _RADIUS_OF_PLACED
    radius *= paper.between(0.92, 1.06)
    x = across * paper.width + paper.between(-_OFF, _OFF)
    y = down * paper.height + paper.between(-_OFF, _OFF)
    colour, turn = _shade(COLOURS[shape.colour], paper), paper.between(-0.09, 0.09)
    return [_outline(shape.name, (x, y), radius, turn, colour)]


def _outline(
    name: str, middle: tuple[float, float], radius: float, turn: float, colour: Rgb
) -> Stroke:
    x, y = middle
    match name:
        case "circle":
            return strokes.ellipse(x, y, radius, radius, colour)
        case "ring":
            half = radius * 0.17
            line = (x, y, radius - half, half, *colour)
            return Stroke("ring", line, (x, y, radius + 0.01, radius + 0.01))
        case "heart":
            values = (x, y, radius * 1.85, *colour)
            return Stroke("heart", values, (x, y, radius * 1.25, radius * 1.25))
        case _:
            cosine, sine = math.cos(turn) * radius, math.sin(turn) * radius
            return strokes.polygon(
                [
                    (x + px * cosine - py * sine, y + px * sine + py * cosine)
                    for px, py in _CORNERS[name]
                ],
                colour,
            )


_ARM = 0.31
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0.0, -1.0), (1.0, 0.78), (-1.0, 0.78)],
    "diamond": [(0.0, -1.1), (0.72, 0.0), (0.0, 1.1), (-0.72, 0.0)],
    "star": [
        (
            (1.12 if corner % 2 == 0 else 0.45) * math.sin(corner * math.pi / 5),
            -(1.12 if corner % 2 == 0 else 0.45) * math.cos(corner * math.pi / 5),
        )
        for corner in range(10)
    ],
    "cross": [
        *[(-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)],
        *[
            (_ARM, 1.0),
            (-_ARM, 1.0),
            (-_ARM, _ARM),
            (-1.0, _ARM),
            (-1.0, -_ARM),
            (-_ARM, -_ARM),
        ],
    ],
}
"""In radii from the middle, y downwards."""
