"""Sheets: many pictures in one, to look at."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

_GAP = 4


def sheet(pictures: Tensor, columns: int) -> Tensor:
    """Lay out n x 3 x h x w (0..1) in rows, with a gap: 3 x H x W."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    whole = torch.ones(3, rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    for index, picture in enumerate(pictures.cpu().float()):
        top, left = index // columns * (height + _GAP), index % columns * (width + _GAP)
        whole[:, top : top + height, left : left + width] = picture
    return whole


def save_picture(path: Path, picture: Tensor) -> None:
    """Write 3 x h x w (0..1) as what the name ends in: PNG, or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous()
    Image.fromarray(pixels.cpu().numpy()).save(path, quality=88)
