"""Strokes of the ground: ridges, water, trees and houses in rows, flowers, and flat patterns."""

import torch
from torch import Tensor
from torch.nn import functional

from training.painter.view import Paint, View, noise, noise_2d, rgb, smooth_noise, step


def ridge_height(x: Tensor, values: tuple[Tensor, ...]) -> Tensor:
    """The height of a ridge, 0..1. Values: frequency, roughness, sharpness, seed."""
    frequency, roughness, sharpness, seed = values
    weight, part = torch.zeros_like(seed), torch.ones_like(seed)
    height = torch.zeros_like(x)
    for octave in range(5):
        place = x * frequency * 2.03**octave + 7.1 * noise(seed * 0 + octave, seed)
        peak = 1 - (2 * (place - place.floor()) - 1).abs()
        height = height + part * torch.lerp(
            smooth_noise(place * 1.5, seed + octave), peak, sharpness
        )
        weight = weight + part
        part = part * roughness
    return height / weight


def ridge(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: foot, height, frequency, roughness, sharpness, seed, snow, crest and foot colour.

    `snow` is the part of the height from which it lies, above 1 for none.
    """
    foot, height, snow = values[0], values[1], values[6]
    crest, low = rgb(values[7:10]), rgb(values[10:13])
    rise = ridge_height(view.x, values[2:6])
    top = foot - height * rise
    depth = ((view.y - top) / height.clamp(min=1e-3)).clamp(0, 1)
    colour = torch.lerp(crest, low, depth)
    ragged = (
        snow
        + 0.12 * smooth_noise(view.x * 26, values[5])
        + 0.05 * noise_2d(view.x * 60, view.y * 40, values[5])
    )
    white = step(-0.01, 0.03, (foot - view.y) / height.clamp(min=1e-3) - ragged)
    lit = torch.lerp(colour, torch.full_like(crest, 0.97), 0.35)
    pale = torch.lerp(lit, torch.full_like(crest, 1.0), 0.55)
    return torch.lerp(colour, pale, white), view.cover(top - view.y)


def water(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: shore (y), end (y), seed, ripple, how much is mirrored, near and far colour."""
    shore, end, seed, ripple, mirrored = values[:5]
    far, near = rgb(values[5:8]), rgb(values[8:11])
    depth = ((view.y - shore) / (end - shore)).clamp(0, 1)
    wave = noise_2d(view.x * 5, 26 * (view.y - shore) / (0.25 + depth), seed) - 0.5
    source_y = shore - (view.y - shore) * 0.95 + wave * ripple * (0.3 + depth)
    source_x = view.x + wave * ripple * 0.4
    seen = _sampled(view, source_x, source_y)
    colour = torch.lerp(torch.lerp(far, near, depth), seen, mirrored)
    shade = 1 + 0.22 * wave * (0.4 + depth)
    return colour * shade, view.cover(shore - view.y)


def _sampled(view: View, x: Tensor, y: Tensor) -> Tensor:
    height, width = view.canvas.shape[-2:]
    grid = torch.stack(
        (
            (x * view.scale / width * 2 - 1).expand(-1, 1, height, width)[:, 0],
            (y * view.scale / height * 2 - 1).expand(-1, 1, height, width)[:, 0],
        ),
        -1,
    )
    return functional.grid_sample(
        view.canvas, grid, padding_mode="reflection", align_corners=False
    )


def glitter(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: x, shore (y), end (y), seed, width, strength, colour: a light's path on water."""
    x, shore, end, seed, width, strength = values[:6]
    depth = ((view.y - shore) / (end - shore)).clamp(0, 1)
    row = ((view.y - shore) * 34 / (0.35 + depth)).floor()
    reach = width * (0.35 + 0.9 * depth) * (0.35 + 0.9 * noise(row, seed))
    offset = width * 0.5 * (noise(row, seed + 1) - 0.5)
    away = (view.x - x - offset).abs() - reach
    cover = step(0.012, -0.02, away) * (1 - 0.55 * depth) * strength
    return rgb(values[6:9]), torch.where(view.y > shore, cover, 0.0)


def pines(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: foot (y), height, distance between two, seed, colour of the tips, of the feet."""
    foot, height, apart, seed = values[:4]
    tip, low = rgb(values[4:7]), rgb(values[7:10])
    cell = (view.x / apart).floor()
    inside = torch.full_like(view.x + view.y, 9.0)
    for near in (-1, 0, 1):
        tree = cell + near
        centre = (tree + 0.2 + 0.6 * noise(tree, seed)) * apart
        tall = height * (0.62 + 0.45 * noise(tree, seed + 1))
        up = (foot - view.y) / tall
        tier = torch.frac((up * 5).clamp(min=0))
        half = tall * 0.26 * (1.05 - up) * (1.12 - 0.5 * tier)
        distance = torch.maximum((view.x - centre).abs() - half, (up - 1) * tall)
        inside = torch.minimum(inside, distance * 0.85)
    inside = torch.minimum(inside, foot - 0.12 * height - view.y)
    rise = ((foot - view.y) / height).clamp(0, 1)
    return torch.lerp(low, tip, rise), view.cover(inside)


def skyline(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: foot (y), height, width of a house, seed, part lit, colour, colour of windows."""
    foot, height, wide, seed, lit = values[:5]
    colour, window = rgb(values[5:8]), rgb(values[8:11])
    cell = (view.x / wide).floor()
    tall = height * (0.3 + 0.7 * noise(cell, seed) ** 1.6)
    across = view.x - cell * wide
    narrow = wide * (0.5 - 0.07 * noise(cell, seed + 1))
    body = torch.maximum((across - wide / 2).abs() - narrow, foot - tall - view.y)
    spire = torch.maximum((across - wide / 2).abs() - wide * 0.03, foot - tall * 1.16 - view.y)
    body = torch.minimum(body, torch.where(noise(cell, seed + 2) > 0.7, spire, 9.0))
    pane = wide / 5
    column, row = (across / pane).floor(), ((foot - view.y) / (pane * 1.5)).floor()
    inner = torch.maximum(
        (across / pane - column - 0.5).abs() - 0.27,
        (((foot - view.y) / (pane * 1.5) - row - 0.5).abs() - 0.3),
    )
    on = noise(cell * 7.7 + column * 3.3 + row * 13.7, seed + 3) < lit
    below = (foot - view.y) < tall - pane
    shown = torch.where(on & below & (foot > view.y), view.cover(inner * pane), 0.0)
    tone = colour * (0.86 + 0.28 * noise(cell, seed + 4))
    return torch.lerp(tone, window, shown), view.cover(body)


def flowers(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: top (y), end (y), seed, red, green, blue: dots, the larger the nearer."""
    top, end, seed = values[:3]
    depth = ((view.y - top) / (end - top)).clamp(0, 1)
    rows = 11 * (depth + 0.05).sqrt()
    row = rows.floor()
    size = 0.016 + 0.045 * (row / 11) ** 2
    column = (view.x / size + 3.7 * noise(row, seed)).floor()
    chance = noise(column * 2.1 + row * 29.7, seed + 1)
    middle = (row + 0.5) / 11
    centre_y = top + (end - top) * (middle * middle - 0.05)
    centre_x = (column + 0.3 + 0.4 * chance - 3.7 * noise(row, seed)) * size
    away = ((view.x - centre_x) ** 2 + (view.y - centre_y) ** 2).sqrt() - size * 0.24
    return rgb(values[3:6]), torch.where(
        (chance < 0.55) & (view.y > top), view.cover(away), 0.0
    )


def stripes(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: 1 for upright ones, distance, phase, red, green, blue."""
    upright, apart, phase = values[:3]
    place = torch.where(upright > 0.5, view.x, view.y) / apart + phase
    return rgb(values[3:6]), view.cover(_band(place) * apart)


def checkers(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: side of two fields, phase, red, green, blue."""
    apart, phase = values[:2]
    across, down = _band(view.x / apart + phase) * apart, _band(view.y / apart + phase) * apart
    either = torch.minimum(torch.maximum(across, down), torch.maximum(-across, -down))
    return rgb(values[2:5]), view.cover(either)


def dots(view: View, values: tuple[Tensor, ...]) -> Paint:
    """Values: distance, phase, red, green, blue."""
    apart, phase = values[:2]
    across = torch.frac(view.x / apart + phase) - 0.5
    down = torch.frac(view.y / apart + phase) - 0.5
    return rgb(values[2:5]), view.cover(((across**2 + down**2).sqrt() - 0.28) * apart)


def _band(place: Tensor) -> Tensor:
    """The signed distance, in periods, to the first half of each period."""
    return (torch.frac(place + 0.25) - 0.5).abs() - 0.25
