"""Strokes of the air: gradients, glows, stars, clouds, rain and snow."""

import torch
from torch import Tensor

from training.painter.view import Paint, View, noise, noise_2d, rgb, step


def plain(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: red, green, blue."""
    return rgb(values[:3]), torch.ones_like(values[0] + view.y[:1, :, :1, :1])


def gradient(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: where it ends and where its middle is (y), then the upper, middle, lower colour."""
    end, middle = values[:2]
    top, mid, low = rgb(values[2:5]), rgb(values[5:8]), rgb(values[8:11])
    upper = torch.lerp(top, mid, (view.y / middle).clamp(0, 1))
    return torch.lerp(upper, low, ((view.y - middle) / (end - middle)).clamp(0, 1)), end * 0 + 1


def glow(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, radius, strength, red, green, blue."""
    x, y, radius, strength = values[:4]
    squared = ((view.x - x) ** 2 + (view.y - y) ** 2) / radius**2
    return rgb(values[4:7]), strength * torch.exp(-0.5 * squared)


def stars(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: seed, where they end (y), cells along the side, part of the cells with a star."""
    seed, end, cells, part = values[:4]
    x, y = view.x * cells, view.y * cells
    column, row = x.floor(), y.floor()
    chance = noise(column * 1.7 + row * 31.3, seed)
    centre_x = 0.25 + 0.5 * noise(column * 3.1 + row * 17.9, seed + 1)
    centre_y = 0.25 + 0.5 * noise(column * 5.3 + row * 11.7, seed + 2)
    radius = (0.05 + 0.09 * (chance / part)) / cells
    away = ((x - column - centre_x) ** 2 + (y - row - centre_y) ** 2).sqrt() / cells
    shown = (chance < part) & (view.y < end)
    return torch.ones_like(away[:, :, :1, :1]).expand(-1, 3, -1, -1), torch.where(
        shown, view.cover(away - radius, 1.5), 0.0
    )


def cloud(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, size, seed, thickness, lit colour, shaded colour."""
    x, y, size, seed, thickness = values[:5]
    lit, shaded = rgb(values[5:8]), rgb(values[8:11])
    across, up = (view.x - x) / size, (y - view.y) / size
    distance = torch.full_like(across + up, 9.0)
    for puff in range(6):
        chance = noise(torch.full_like(seed, float(puff)), seed)
        centre = (puff - 2.5) * 0.36
        radius = (0.46 - 0.055 * abs(puff - 2.5) ** 1.5) * (0.72 + 0.4 * chance)
        rise = 0.12 + 0.16 * chance
        away = ((across - centre) ** 2 + (up - rise) ** 2).sqrt() - radius
        distance = torch.minimum(distance, away)
    distance = torch.maximum(distance, -up - 0.12)
    cover = step(0.05, -0.05, distance) * thickness
    return torch.lerp(shaded, lit, step(-0.15, 0.45, up)), cover


def overcast(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: seed, where it ends (y), red, green, blue: a torn blanket of cloud."""
    seed, end = values[:2]
    billow = 0.65 * noise_2d(view.x * 3, view.y * 7, seed) + 0.35 * noise_2d(
        view.x * 8, view.y * 17, seed + 3
    )
    return rgb(values[2:5]), 0.85 * step(0.35, 0.75, billow) * step(1.0, 0.2, view.y / end)


def rain(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: seed, slant, strength, red, green, blue."""
    seed, slant, strength = values[:3]
    across = (view.x + view.y * slant) * 46
    column = across.floor()
    down = view.y * 5.5 + 9 * noise(column, seed)
    row = down.floor()
    shown = noise(column * 2.3 + row * 19.1, seed + 1) < 0.42
    streak = (across - column - 0.5).abs() / 46 - 0.0014
    length = step(0.0, 0.25, down - row) * step(0.75, 0.45, down - row)
    return rgb(values[3:6]), torch.where(shown, strength * length * view.cover(streak), 0.0)


def flakes(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: seed, cells along the side, radius in cells, strength: falling snow."""
    seed, cells, radius, strength = values[:4]
    x, y = view.x * cells, view.y * cells
    column, row = x.floor(), y.floor()
    shown = noise(column * 1.9 + row * 23.3, seed) < 0.45
    centre_x = 0.3 + 0.4 * noise(column * 3.7 + row * 13.1, seed + 1)
    centre_y = 0.3 + 0.4 * noise(column * 5.9 + row * 7.3, seed + 2)
    away = ((x - column - centre_x) ** 2 + (y - row - centre_y) ** 2).sqrt() - radius
    cover = strength * view.cover(away / cells, 1.5)
    white = torch.ones_like(seed).expand(-1, 3, -1, -1)
    return white, torch.where(shown, cover, 0.0)


def beam(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, y, direction (-1 or 1), reach, strength, red, green, blue: a cone of light."""
    x, y, direction, reach, strength = values[:5]
    along = (view.x - x) * direction / reach
    aside = (view.y - y + 0.12 * along * reach).abs() / (
        0.012 + 0.16 * along.clamp(min=0) * reach
    )
    fade = torch.where(along > 0, step(1.0, 0.0, along), 0.0)
    return rgb(values[5:8]), strength * fade * step(1.0, 0.4, aside)
