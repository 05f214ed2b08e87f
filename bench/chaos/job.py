"""The job: what is asked for, and whether a picture is the one."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from bench.chaos.pipelines import gradient, noise

SIDE = 256


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for."""

    id: str
    seed: int
    words: str
    width: int = SIDE
    height: int = SIDE

    @property
    def prompt(self) -> str:
        return f"job={self.id} {self.words}"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
        }

    def fault_of(self, data: bytes, seed: int) -> str:
        """Return what is wrong with a picture for this job; empty if nothing is."""
        if seed != self.seed:
            return f"seed {seed}, not {self.seed}"
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image)
        paint = noise if "noise" in self.words else gradient
        if not np.array_equal(pixels, paint(self.width, self.height, self.seed)):
            return "another picture than the seed's"
        return ""
