"""What draws for the evaluation: the finished model through the real pipeline, or the painter."""

import time
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from torch import Tensor

from training.learning.settings import FORWARDS
from training.model.sizes import TOKEN
from training.painter.paint import paint
from training.scenes import Scene


class Model:
    """The finished model, as the service runs it: float32 on a CPU, eight explicit sigmas."""

    def __init__(self, folder: Path) -> None:
        started = time.monotonic()
        self._pipe: Any = ZImagePipeline.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
        self._pipe.set_progress_bar_config(disable=True)
        self._pipe.vae.to(memory_format=torch.channels_last)
        self.load_s = time.monotonic() - started

    def draw(
        self, prompt: str, width: int, height: int, seed: int, forwards: int = FORWARDS
    ) -> Tensor:
        """Draw 3 x h x w, 0..1; what is no multiple of 32 is drawn larger and cropped alike."""
        wide, tall = (-(-side // TOKEN) * TOKEN for side in (width, height))
        picture: Tensor = self._pipe(
            prompt=prompt,
            width=wide,
            height=tall,
            num_inference_steps=forwards,
            sigmas=[1 - index / forwards for index in range(forwards)],
            guidance_scale=0.0,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pt",
            return_dict=False,
        )[0][0]
        left, top = (wide - width) // 2, (tall - height) // 2
        return picture[:, top : top + height, left : left + width].float()


def by_the_painter(scene: Scene, width: int, height: int) -> Tensor:
    """Paint the scene itself: 3 x h x w, 0..1."""
    return paint([scene], width, height)[0]
