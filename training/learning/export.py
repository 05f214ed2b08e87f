"""The finished model as a folder that `ZImagePipeline.from_pretrained` loads."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

from training.learning.settings import SHIFT

_CARD = """---
license: mit
pipeline_tag: text-to-image
---
# imagegen's built-in model

Draws the scenes that a small painter of ours draws: six lands under six skies with eleven things in
them, coloured shapes, patterns, four styles. It was trained on that painter's pictures alone, from
random weights; no photograph, no artist's work and no other model had a part in it.

What it gets right is told in figures in docs/training.md of the repository: skies, lands, hours,
backgrounds, patterns, and colours, places and numbers of shapes; outlines three times in four.

It shows that a prompt goes in and that prompt's picture comes out of the real `ZImagePipeline`. It
is no image model for anything else: of words outside its small vocabulary it takes no notice, it
knows no people, animals or letters, and it reads English only.

`training.json` has the seed, the settings and the seconds of the run. The code is in `training/`
of the repository; licence: MIT, as the rest of it.
"""


def export(parts: dict[str, Any], folder: Path) -> None:
    """Write codec, tokenizer, encoder and transformer in half precision, whole or not at all."""
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000, shift=SHIFT, use_dynamic_shifting=False
        ),
        vae=parts["codec"].cpu().eval().to(torch.float16),
        text_encoder=parts["encoder"].cpu().eval().to(torch.float16),
        tokenizer=parts["tokenizer"],
        transformer=parts["transformer"].cpu().eval().to(torch.float16),
    )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pipeline.save_pretrained(unfinished)
    (unfinished / "README.md").write_text(_CARD)
    for path in (unfinished, *unfinished.rglob("*")):
        # save_pretrained writes weights as 0600; a service of another user reads them too.
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def megabytes(folder: Path) -> float:
    """Return the size of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
