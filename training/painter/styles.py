"""Styles: the whole picture once more, as another hand would have made it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.painter.view import noise_2d, step

_SMALL = 128
"""Pixels of the shorter side of the copy that glows are made on."""


def _places(picture: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    height, width = picture.shape[-2:]
    x = (torch.arange(width, device=picture.device) + 0.5) / scale
    y = (torch.arange(height, device=picture.device) + 0.5) / scale
    return x[None, None, None], y[None, None, :, None]


def _blurred(picture: Tensor, radius: float) -> Tensor:
    """Two box blurs, about a Gaussian one; `radius` in pixels."""
    half = max(1, round(radius))
    picture = functional.pad(picture, (2 * half,) * 4, mode="replicate")
    for _ in range(2):
        picture = functional.avg_pool2d(picture, (2 * half + 1, 1), 1)
        picture = functional.avg_pool2d(picture, (1, 2 * half + 1), 1)
    return picture


def _halo(lines: Tensor, scale: float) -> Tensor:
    """A near and a far glow round lines, made on a small copy: nobody sees the difference."""
    height, width = lines.shape[-2:]
    size = round(height / scale * _SMALL), round(width / scale * _SMALL)
    small = functional.interpolate(lines, size, mode="area")
    halo = _blurred(small, _SMALL / 60) * 1.6 + _blurred(small, _SMALL / 24)
    return functional.interpolate(halo, (height, width), mode="bilinear", align_corners=False)


def _edges(picture: Tensor, scale: float) -> Tensor:
    """How strongly neighbours differ, n x 1 x h x w, about 0..1, lines a fixed part wide."""
    reach = max(1, round(scale / 340))
    padded = functional.pad(picture, (reach,) * 4, mode="replicate")
    most = functional.max_pool2d(padded, 2 * reach + 1, 1)
    least = -functional.max_pool2d(-padded, 2 * reach + 1, 1)
    return (most - least).amax(1, keepdim=True)


def watercolour(picture: Tensor, scale: float, seed: Tensor) -> Tensor:
    """Soft edges, a wash that runs, pale paper that shows at the rims."""
    x, y = _places(picture, scale)
    soft = _blurred(picture, scale / 170)
    wash = 0.6 * noise_2d(x * 5, y * 5, seed) + 0.4 * noise_2d(x * 17, y * 17, seed + 5)
    pale = 0.12 + 0.2 * wash
    rim = 0.25 * step(0.1, 0.5, _edges(soft, scale))
    return torch.lerp(soft, torch.ones_like(soft), pale) * (1 - rim)


def pencil(picture: Tensor, scale: float, seed: Tensor) -> Tensor:
    """Grey lines along the edges and hatching in the dark, on paper."""
    x, y = _places(picture, scale)
    grey = picture.mean(1, keepdim=True)
    outline = step(0.06, 0.3, _edges(picture, scale))
    wave = torch.sin((x + y) * 420 / 2.2 + 2 * noise_2d(x * 9, y * 9, seed))
    hatch = step(-0.2, 0.6, wave) * step(0.75, 0.15, grey) * 0.55
    tone = 0.96 - 0.22 * (1 - grey) - 0.72 * torch.maximum(outline, hatch)
    return tone.clamp(0.08, 1).expand(-1, 3, -1, -1)


def neon(picture: Tensor, scale: float, seed: Tensor) -> Tensor:
    """Dark, with edges that shine in the colours they part."""
    del seed  # nothing of it is left to chance
    edges = step(0.10, 0.45, _edges(picture, scale))
    bright = picture / picture.amax(1, keepdim=True).clamp(min=0.25)
    lines = bright * edges
    return (picture * 0.16 + lines + _halo(lines, scale) * 0.8).clamp(0, 1)


def pixel(picture: Tensor, scale: float, seed: Tensor) -> Tensor:
    """Squares of one colour, 40 to the shorter side."""
    del seed  # nothing of it is left to chance
    height, width = picture.shape[-2:]
    side = scale / 40
    small = functional.interpolate(
        picture, (round(height / side), round(width / side)), mode="area"
    )
    few = (small * 9).round() / 9
    return functional.interpolate(few, (height, width), mode="nearest")


STYLES: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "watercolour": watercolour,
    "pencil": pencil,
    "neon": neon,
    "pixel": pixel,
}
"""Of a picture 0..1, the pixels of its shorter side, and seeds n x 1 x 1 x 1."""
