"""Things in a landscape: each a few strokes round its place, in the light of the hour."""

from dataclasses import dataclass

from training.painter.light import Light, mix
from training.painter.strokes import Paper, Stroke, ellipse, line, polygon
from training.words import COLOURS, Rgb

_WINDOW = (1.0, 0.86, 0.45)
_PANE = (0.60, 0.78, 0.90)


@dataclass(frozen=True)
class Spot:
    """Where a thing stands (its foot), how large it is, and the light on it."""

    x: float
    y: float
    size: float
    light: Light

    def at(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        """Return places given in sizes from the foot, upwards."""
        return [(self.x + across * self.size, self.y - up * self.size) for across, up in points]

    def box(self, left: float, low: float, right: float, high: float, colour: Rgb) -> Stroke:
        """A rectangle, in sizes from the foot."""
        return polygon(self.at((left, low), (right, low), (right, high), (left, high)), colour)


def house(spot: Spot, paper: Paper) -> list[Stroke]:
    """Walls, a roof, a chimney, a door and two windows."""
    wall = spot.light.on(paper.chance.choice([(0.94, 0.88, 0.76), (0.90, 0.62, 0.48)]))
    roof = spot.light.on(paper.chance.choice([(0.70, 0.22, 0.18), (0.36, 0.27, 0.30)]))
    pane = _WINDOW if spot.light.lamps else spot.light.on(_PANE)
    dark = spot.light.on((0.36, 0.22, 0.14))
    return [
        spot.box(0.38, 0.9, 0.56, 1.55, roof),
        spot.box(-0.72, 0.0, 0.72, 0.88, wall),
        polygon(spot.at((-0.92, 0.84), (0.92, 0.84), (0.0, 1.58)), roof),
        spot.box(-0.14, 0.0, 0.16, 0.52, dark),
        spot.box(-0.56, 0.32, -0.28, 0.62, pane),
        spot.box(0.3, 0.32, 0.58, 0.62, pane),
    ]


def tree(spot: Spot, paper: Paper) -> list[Stroke]:
    """A trunk and a round crown with a lit side."""
    crown = (0.20, 0.52, 0.20) if paper.chance.random() < 0.75 else (0.85, 0.48, 0.14)
    leaf, bright = spot.light.on(crown), spot.light.on(mix(crown, (1.0, 0.95, 0.5), 0.25))
    bark = spot.light.on((0.40, 0.26, 0.15))
    puffs = [(0.0, 1.75, 0.62), (-0.45, 1.35, 0.5), (0.45, 1.35, 0.5), (0.0, 1.2, 0.5)]
    painted = [polygon(spot.at((-0.14, 0), (0.14, 0), (0.09, 1.2), (-0.09, 1.2)), bark)]
    for across, up, radius in puffs:
        (place,) = spot.at((across, up))
        painted.append(ellipse(*place, radius * spot.size, radius * spot.size * 0.92, leaf))
    for across, up, radius in puffs[:2]:
        (place,) = spot.at((across - 0.12, up + 0.12))
        painted.append(
            ellipse(*place, radius * spot.size * 0.6, radius * spot.size * 0.5, bright)
        )
    return painted


def boat(spot: Spot, paper: Paper) -> list[Stroke]:
    """A hull, a mast and two sails."""
    hull = spot.light.on(paper.chance.choice([(0.62, 0.20, 0.16), (0.36, 0.22, 0.14)]))
    sail = mix(spot.light.on((0.98, 0.96, 0.90)), (0.98, 0.96, 0.90), 0.25)
    shade = mix(sail, spot.light.haze, 0.3)
    mast = spot.at((0.0, 0.2), (0.0, 1.85))
    return [
        line(mast[0], mast[1], 0.05 * spot.size, spot.light.on((0.35, 0.24, 0.15))),
        polygon(spot.at((0.06, 0.42), (0.86, 0.42), (0.06, 1.78)), sail),
        polygon(spot.at((-0.07, 0.42), (-0.66, 0.42), (-0.07, 1.5)), shade),
        polygon(spot.at((-0.98, 0.32), (1.02, 0.32), (0.68, -0.06), (-0.66, -0.06)), hull),
        polygon(spot.at((-0.95, 0.32), (1.02, 0.32), (0.98, 0.24), (-0.9, 0.24)), sail),
    ]


def balloon(spot: Spot, paper: Paper) -> list[Stroke]:
    """A striped balloon with its basket; the spot is the middle of the balloon."""
    names = paper.chance.sample(["red", "yellow", "purple", "orange", "turquoise", "white"], 2)
    first, second = (_glowing(COLOURS[name], spot.light) for name in names)
    cane = spot.light.on((0.45, 0.30, 0.16))
    size = spot.size
    lower = spot.at((-0.80, -0.5), (0.80, -0.5), (0.17, -1.32), (-0.17, -1.32))
    inner = spot.at((-0.42, -0.55), (0.42, -0.55), (0.1, -1.32), (-0.1, -1.32))
    ropes = spot.at((-0.15, -1.3), (-0.15, -1.6), (0.15, -1.3), (0.15, -1.6))
    return [
        line(ropes[0], ropes[1], 0.03 * size, cane),
        line(ropes[2], ropes[3], 0.03 * size, cane),
        polygon(lower, first),
        ellipse(spot.x, spot.y, size, size, first),
        polygon(inner, second),
        ellipse(spot.x, spot.y, size * 0.52, size * 0.99, second),
        ellipse(spot.x, spot.y, size * 0.18, size * 0.98, first),
        spot.box(-0.2, -1.88, 0.2, -1.56, cane),
    ]


def _glowing(colour: Rgb, light: Light) -> Rgb:
    """Seen against the sky: never quite dark."""
    return mix(light.on(colour), colour, 0.5)


def lighthouse(spot: Spot, paper: Paper) -> list[Stroke]:
    """A red and white tower on a rock; at night and in storms its light turns."""
    light, size = spot.light, spot.size
    rock, white, red = (
        light.on(c) for c in ((0.36, 0.33, 0.31), (0.97, 0.96, 0.93), (0.82, 0.14, 0.13))
    )
    (lamp,) = spot.at((0.0, 2.43))
    painted = [
        ellipse(spot.x, spot.y + size * 0.1, size * 1.0, size * 0.42, rock),
        ellipse(spot.x + size * 0.6, spot.y + size * 0.16, size * 0.8, size * 0.3, rock),
    ]
    for floor in range(5):
        low, high = 0.2 + 0.4 * floor, 0.6 + 0.4 * floor
        wide, narrow = 0.34 - 0.05 * floor, 0.29 - 0.05 * floor
        corners = spot.at((-wide, low), (wide, low), (narrow, high), (-narrow, high))
        painted.append(polygon(corners, red if floor % 2 == 0 else white))
    painted += [
        spot.box(-0.22, 2.18, 0.22, 2.28, rock),
        spot.box(-0.13, 2.28, 0.13, 2.58, (1.0, 0.93, 0.62)),
        polygon(spot.at((-0.2, 2.56), (0.2, 2.56), (0.0, 2.86)), red),
    ]
    if light.lamps or light.low[0] < 0.6:
        reach = -1.0 if spot.x > paper.width / 2 else 1.0
        beam = (*lamp, reach, paper.width * 0.8, 0.55, 1.0, 0.95, 0.7)
        painted += [
            Stroke("beam", beam),
            Stroke("glow", (*lamp, size * 0.25, 0.8, 1.0, 0.95, 0.7)),
        ]
    return painted


def bridge(y: float, light: Light, paper: Paper) -> list[Stroke]:
    """A suspension bridge across the picture: two towers, a deck, cables and hangers."""
    steel = light.on((0.74, 0.22, 0.15), 0.06)
    towers = (paper.width * 0.24, paper.width * 0.76)
    tall, thick = 0.30, 0.012
    span = towers[1] - towers[0]
    painted = [line((0.0, y), (paper.width, y), 0.020, steel)]
    for x in towers:
        low, high = y + 0.085, y - tall
        painted += [
            line((x + side, low), (x + side, high), thick, steel) for side in (-0.016, 0.016)
        ]
        middle = y - tall * 0.6
        painted.append(line((x - 0.016, middle), (x + 0.016, middle), thick, steel))
    pieces = 12
    for part in range(pieces):
        start, end = part / pieces, (part + 1) / pieces
        ends = [
            (towers[0] + span * u, y - 0.03 - (tall - 0.03) * (2 * u - 1) ** 2)
            for u in (start, end)
        ]
        painted += [
            line(ends[0], ends[1], 0.008, steel),
            line(ends[1], (ends[1][0], y), 0.004, steel),
        ]
    painted += [
        line((0.0, y - 0.02), (towers[0], y - tall), 0.008, steel),
        line((towers[1], y - tall), (paper.width, y - 0.02), 0.008, steel),
    ]
    return painted


def birds(horizon: float, light: Light, paper: Paper) -> list[Stroke]:
    """A flock: two strokes a bird."""
    dark = mix((0.10, 0.10, 0.13), light.haze, 0.12)
    x, y = paper.between(0.3, 0.6) * paper.width, paper.between(0.25, 0.5) * horizon
    painted = []
    for _ in range(7):
        at = x + paper.between(-0.26, 0.26), y + paper.between(-0.13, 0.13)
        size, lift = paper.between(0.022, 0.036), paper.between(0.4, 0.7)
        for side in (-1, 1):
            bend = at[0] + side * size * 0.55, at[1] - size * lift
            tip = at[0] + side * size * 1.1, at[1] - size * lift * 0.55
            painted += [line(at, bend, 0.0075, dark), line(bend, tip, 0.006, dark)]
    return painted
