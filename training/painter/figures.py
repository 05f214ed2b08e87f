"""Strokes with an outline: signed distances, negative inside."""

import math

import torch
from torch import Tensor

from training.painter.view import Paint, View, rgb

CORNERS = 12
"""Of a polygon at most; the last one is repeated where there are fewer."""


def polygon(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: CORNERS times x and y, then red, green, blue."""
    corners = [(values[2 * i], values[2 * i + 1]) for i in range(CORNERS)]
    return rgb(values[-3:]), view.cover(polygon_distance(view, corners))


def polygon_distance(view: View, corners: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The signed distance to a polygon (after I. Quilez, sdPolygon)."""
    x, y = view.x, view.y
    nearest = (x - corners[0][0]) ** 2 + (y - corners[0][1]) ** 2
    sign = torch.ones_like(nearest)
    for (x0, y0), (x1, y1) in zip(corners, [corners[-1], *corners[:-1]], strict=True):
        edge_x, edge_y, from_x, from_y = x1 - x0, y1 - y0, x - x0, y - y0
        length = (edge_x**2 + edge_y**2).clamp(min=1e-12)
        along = ((from_x * edge_x + from_y * edge_y) / length).clamp(0, 1)
        nearest = torch.minimum(
            nearest, (from_x - edge_x * along) ** 2 + (from_y - edge_y * along) ** 2
        )
        above, below = y >= y0, y < y1
        turn = edge_x * from_y > edge_y * from_x
        crossed = (above & below & turn) | (~above & ~below & ~turn)
        sign = torch.where(crossed, -sign, sign)
    return sign * nearest.sqrt()


def ellipse(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, both radii, red, green, blue."""
    x, y, across, down = values[:4]
    inside = (((view.x - x) / across) ** 2 + ((view.y - y) / down) ** 2).sqrt()
    return rgb(values[4:7]), view.cover((inside - 1) * torch.minimum(across, down))


def ring(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, radius, half the width of the line, red, green, blue."""
    x, y, radius, half = values[:4]
    distance = (((view.x - x) ** 2 + (view.y - y) ** 2).sqrt() - radius).abs() - half
    return rgb(values[4:7]), view.cover(distance)


def line(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x and y of both ends, half the width, red, green, blue."""
    x0, y0, x1, y1, half = values[:5]
    edge_x, edge_y = x1 - x0, y1 - y0
    length = (edge_x**2 + edge_y**2).clamp(min=1e-12)
    along = (((view.x - x0) * edge_x + (view.y - y0) * edge_y) / length).clamp(0, 1)
    distance = (
        (view.x - x0 - edge_x * along) ** 2 + (view.y - y0 - edge_y * along) ** 2
    ).sqrt()
    return rgb(values[5:8]), view.cover(distance - half)


def heart(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, size, red, green, blue (after I. Quilez, sdHeart)."""
    x, y, size = values[:3]
    across = ((view.x - x) / size).abs()
    up = (y - view.y) / size + 0.55
    lobe = ((across - 0.25) ** 2 + (up - 0.75) ** 2).sqrt() - math.sqrt(2) / 4
    half = 0.5 * (across + up).clamp(min=0)
    tip = torch.minimum(
        (across**2 + (up - 1) ** 2).sqrt(), ((across - half) ** 2 + (up - half) ** 2).sqrt()
    ) * torch.sign(across - up)
    distance = torch.where(across + up > 1, lobe, tip)
    return rgb(values[3:6]), view.cover(distance * size)
