"""The photograph: a made-up frame that compresses as a photograph does, the same on every run.

Dead leaves (discs that hide each other, radii by a power law) give edges at every scale, 1/f noise
gives texture, and a little white noise gives what a sensor, or a diffusion model, leaves.
"""

import numpy as np
from numpy.typing import NDArray

_SEED = 20
_LEAVES = 1500
_RADII = (6.0, 260.0)
"""Smallest and largest, in pixels of a side of 1024."""
_TEXTURE, _GRAIN = 5.0, 0.8
"""Standard deviations, of 255. With them Pillow's default PNG of 1024x1024 has about 1.5 MB."""


def photograph(width: int = 1024, height: int = 1024) -> NDArray[np.uint8]:
    """Return a frame: `height` x `width` x 3, uint8, C-contiguous."""
    random = np.random.default_rng(_SEED)
    frame = _leaves(random, width, height)
    frame += _TEXTURE * _pink(random, width, height)[:, :, None]
    frame += _GRAIN * random.standard_normal(frame.shape, np.float32)
    return np.ascontiguousarray(frame.clip(0, 255).round().astype(np.uint8))


def _leaves(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Paint discs over each other, radii as 1 / radius cubed, each with a gradient of light."""
    frame = np.full((height, width, 3), 127, np.float32)
    smallest, largest = (radius * max(width, height) / 1024 for radius in _RADII)
    for share in random.random(_LEAVES):
        radius = smallest / np.sqrt(1 - share * (1 - (smallest / largest) ** 2))
        x, y = random.uniform(0, width), random.uniform(0, height)
        colour, light = random.uniform(20, 235, 3), random.uniform(-30, 30, 2) / radius
        left, right = max(int(x - radius), 0), min(int(x + radius) + 1, width)
        top, bottom = max(int(y - radius), 0), min(int(y + radius) + 1, height)
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        shade = light[0] * (columns - x) + light[1] * (rows - y)
        frame[top:bottom, left:right][inside] = (colour + shade[:, :, None])[inside]
    return frame


def _pink(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Noise whose amplitude falls as 1 / frequency; mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(random.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency, s=(height, width))
    return (noise / noise.std()).astype(np.float32)
