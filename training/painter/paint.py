"""Scenes → pictures: the strokes of many scenes at once, kind by kind."""

import random
from collections import Counter
from typing import assert_never

import torch
from torch import Tensor

from training.painter.landscape import landscape
from training.painter.still import pattern, still
from training.painter.strokes import KINDS, Paper, Stroke
from training.painter.styles import STYLES
from training.painter.view import View
from training.scenes import Landscape, Pattern, Scene, Still


def paint(scenes: list[Scene], width: int, height: int, device: str = "cpu") -> Tensor:
    """Return the pictures, n x 3 x height x width, 0..1: the same ones for the same scenes."""
    scale = float(min(width, height))
    canvas = torch.zeros(len(scenes), 3, height, width, device=device)
    waiting = [strokes(scene, width / scale, height / scale)[::-1] for scene in scenes]
    while any(waiting):
        # Whatever most scenes wait for, so that few and large operations do it.
        heads = Counter(left[-1].group(scale) for left in waiting if left)
        group = heads.most_common(1)[0][0]
        rows = [
            row for row, left in enumerate(waiting) if left and left[-1].group(scale) == group
        ]
        _apply(canvas, scale, rows, [waiting[row].pop() for row in rows])
    for name, style in STYLES.items():
        rows = [row for row, scene in enumerate(scenes) if scene.style == name]
        if rows:
            seeds = torch.tensor([scenes[row].seed % 199 + 1.0 for row in rows], device=device)
            canvas[rows] = style(canvas[rows], scale, seeds[:, None, None, None])
    return canvas.clamp_(0, 1)


def strokes(scene: Scene, width: float, height: float) -> list[Stroke]:
    """Return the strokes of a scene in their order; sizes in lengths of the shorter side."""
    paper = Paper(width, height, random.Random(scene.seed))
    match scene:
        case Landscape():
            return landscape(scene, paper)
        case Still():
            return still(scene, paper)
        case Pattern():
            return pattern(scene, paper)
        case _:
            assert_never(scene)


def _apply(canvas: Tensor, scale: float, rows: list[int], drawn: list[Stroke]) -> None:
    kind, device = KINDS[drawn[0].kind], canvas.device
    values = torch.tensor([stroke.values for stroke in drawn], device=device)
    numbers = tuple(values[:, index, None, None, None] for index in range(values.shape[1]))
    boxes = [stroke.box for stroke in drawn if stroke.box is not None]
    index = torch.tensor(rows, device=device)
    if not boxes:
        view = _whole(canvas, index, scale)
        colour, cover = kind(view, numbers)
        canvas[index] = torch.lerp(view.canvas, colour, cover.clamp(0, 1))
        return
    height, width = canvas.shape[-2:]
    _, wide, tall = drawn[0].group(scale)
    wide, tall = min(width, wide), min(height, tall)
    left = _origins([x * scale - wide / 2 for x, *_ in boxes], width - wide, device)
    top = _origins([y * scale - tall / 2 for _, y, *_ in boxes], height - tall, device)
    columns = left[:, None, None] + torch.arange(wide, device=device)
    lines = top[:, None, None] + torch.arange(tall, device=device)[:, None]
    place = (index[:, None, None], slice(None), lines, columns)
    before = canvas[place].permute(0, 3, 1, 2)
    view = View((columns[:, None] + 0.5) / scale, (lines[:, None] + 0.5) / scale, scale, before)
    colour, cover = kind(view, numbers)
    canvas[place] = torch.lerp(before, colour, cover.clamp(0, 1)).permute(0, 2, 3, 1)


def _whole(canvas: Tensor, index: Tensor, scale: float) -> View:
    height, width = canvas.shape[-2:]
    x = (torch.arange(width, device=canvas.device) + 0.5) / scale
    y = (torch.arange(height, device=canvas.device) + 0.5) / scale
    return View(x[None, None, None], y[None, None, :, None], scale, canvas[index])


def _origins(wanted: list[float], most: int, device: torch.device) -> Tensor:
    return torch.tensor([min(max(int(at), 0), most) for at in wanted], device=device)
