"""Shards: painted, captioned, encoded scenes, each the same whenever it is made anew."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.captions import caption, long_caption
from training.learning import keeping
from training.learning.chance import generator, number
from training.learning.records import is_still, record
from training.learning.settings import Canvas, Settings
from training.model.sizes import TOKEN
from training.model.text import MULTIPLE, padded, tokens
from training.painter.paint import paint
from training.scenes import draw_scene

_LONG = 0.1
"""The part of batches whose captions fill more than one multiple of 32 tokens."""
_PAINTED_AT_ONCE = 16 * 512 * 512
"""Pixels, on a CPU; eight times as many on a GPU."""


@dataclass(frozen=True)
class Batch:
    """What one step learns from."""

    latents: Tensor
    """n x LATENTS x h x w, float32."""
    ids: Tensor
    """n x (32 or 64), the captions' tokens."""
    records: Tensor
    """n x what `record` gives: what there is to be seen."""
    untold: Tensor
    """n: whose caption was left out."""
    places: tuple[int, int] = (1, 0)
    """How far apart the tokens' rotary places are, and where the first one is."""


class Shards:
    """The shards in use: made when they are asked for, kept on disk or in the device's memory."""

    def __init__(self, settings: Settings, folder: Path, tokenizer: Any, encoder: Any) -> None:
        self._settings, self._folder = settings, folder / "shards"
        self._tokenizer, self._encoder = tokenizer, encoder
        self._held: dict[tuple[int, int], dict[str, Tensor]] = {}

    def fill(self) -> Iterator[int]:
        """Make the shards of the first window one after another; for the phase before learning."""
        for made in range(self._settings.shards.window):
            before, after = self._shares(made), self._shares(made + 1)
            for canvas, (had, has) in enumerate(zip(before, after, strict=True)):
                for index in range(had, has):
                    self._shard(canvas, index)
                    self._held.clear()  # kept on disk; memory is for what is learnt from
            yield made + 1

    def _shares(self, made: int) -> list[int]:
        """Return how many of so many shards are of each canvas: by weight, at least one."""
        canvases = self._settings.canvases
        weights = [canvas.weight(0.0) + canvas.weight(1.0) for canvas in canvases]
        return [1 + int(made * weight / sum(weights)) if made else 0 for weight in weights]

    def batch(self, phase: str, step: int, part: float, ready: int | None = None) -> Batch:
        """Return the batch of a step. `ready` is how many shards `fill` made, where it did."""
        settings = self._settings
        rng = random.Random(number(settings.seed, phase, step, "batch"))
        weights = [canvas.weight(part) for canvas in settings.canvases]
        chosen = rng.choices(range(len(weights)), weights)[0]
        names = self._window(chosen, step, ready)
        count = self._pictures(settings.canvases[chosen])
        several = [self._shard(chosen, rng.choice(names)) for _ in range(min(4, count))]
        key = "long" if rng.random() < _LONG else "short"
        latents, ids, records = [], [], []
        for turn, shard in enumerate(several):
            share = count // len(several) + (turn < count % len(several))
            rows = self._rows(shard["records"], share, rng)
            ways = [rng.randrange(shard[key].shape[1]) for _ in rows]
            latents.append(shard["latents"][rows].float())
            ids.append(shard[key][rows, ways].long())
            records.append(shard["records"][rows])
        found = torch.cat(ids)
        untold = self._some_left_out(found, rng)
        apart = rng.choice(settings.canvases[chosen].apart)
        places = apart, rng.randrange(apart)
        return Batch(torch.cat(latents), found, torch.cat(records), untold, places)

    def _rows(self, records: Tensor, count: int, rng: random.Random) -> list[int]:
        """Draw scenes of a shard by lot: still lifes are likelier, as outlines are hard."""
        stills = self._settings.shards.stills
        weights = [stills if one else 1.0 for one in is_still(records).tolist()]
        return rng.choices(range(len(weights)), weights, k=count)

    def _some_left_out(self, ids: Tensor, rng: random.Random) -> Tensor:
        """Take the caption from some: the empty prompt, in the length of a short one.

        Returns which, never all: there must be something to tell.
        """
        dropout = self._settings.flow.dropout if ids.shape[1] <= MULTIPLE else 0.0
        untold = torch.tensor([rng.random() < dropout for _ in range(len(ids))])
        untold[0] = False
        if dropout:
            ids[untold] = self.empty().to(ids.device)
        return untold.to(ids.device)

    def empty(self) -> Tensor:
        """Return the tokens of no caption, 32 of them with the filler."""
        found = tokens(self._tokenizer, [""])[0]
        return torch.tensor(padded(found, MULTIPLE, self._tokenizer.pad_token_id))

    def _pictures(self, canvas: Canvas) -> int:
        return max(2, self._settings.flow.tokens * TOKEN**2 // canvas.pixels)

    def _window(self, canvas: int, step: int, ready: int | None) -> list[int]:
        settings = self._settings.shards
        each = self._shares(ready if ready is not None else settings.window)[canvas]
        if not settings.fresh_every:
            return list(range(each))
        # Begins with few and grows to the whole window, so that learning begins at once.
        newest = 1 + self._shares(1 + step // settings.fresh_every)[canvas]
        for held in [key for key in self._held if key[0] == canvas and key[1] < newest - each]:
            del self._held[held]
        return list(range(max(0, newest - each), newest))

    def _shard(self, canvas: int, index: int) -> dict[str, Tensor]:
        key = canvas, index
        if key not in self._held:
            path = self._folder / f"{canvas}-{index:05d}.shard"
            on_disk = not self._settings.shards.fresh_every
            found = keeping.load(path, self._settings.device) if on_disk else None
            if found is None:
                found = self._made(canvas, index)
                if on_disk:
                    keeping.save(path, found)
            self._held[key] = found
        return self._held[key]

    @torch.no_grad()
    def _made(self, canvas_index: int, index: int) -> dict[str, Tensor]:
        settings, canvas = self._settings, self._settings.canvases[canvas_index]
        device, filler = settings.device, self._tokenizer.pad_token_id
        rng = random.Random(number(settings.seed, "shard", canvas_index, index))
        scenes = [
            draw_scene(rng) for _ in range(max(2, settings.shards.pixels // canvas.pixels))
        ]
        most = max(1, _PAINTED_AT_ONCE * (1 if device == "cpu" else 8) // canvas.pixels)
        latents = []
        for start in range(0, len(scenes), most):
            painted = paint(scenes[start : start + most], canvas.width, canvas.height, device)
            latents.append(self._encoder(painted * 2 - 1).half())
        ways = settings.shards.captions
        short = tokens(self._tokenizer, [caption(s, rng) for s in scenes for _ in range(ways)])
        long = tokens(self._tokenizer, [long_caption(scene, rng) for scene in scenes])
        # Captions of more than 32 tokens are cut in the short column; the long one has them whole.
        rows = [padded(found, MULTIPLE, filler) for found in short]
        long_rows = [_long(found, filler) for found in long]
        return {
            "latents": torch.cat(latents),
            "records": torch.tensor([record(scene) for scene in scenes], device=device).byte(),
            "short": torch.tensor(rows, device=device).view(len(scenes), ways, -1).int(),
            "long": torch.tensor(long_rows, device=device).view(len(scenes), 1, -1).int(),
        }


def _long(found: list[int], filler: int) -> list[int]:
    """At least 33 and at most 64 tokens: the transformer pads no further than a multiple of 32."""
    while len(found) <= MULTIPLE:
        found = [*found[:-1], *found]
    return padded(found, 2 * MULTIPLE, filler)


def noise_like(latents: Tensor, *parts: object) -> Tensor:
    """Return noise that the parts settle."""
    device = latents.device
    chance = generator(device.type, *parts)
    return torch.randn(latents.shape, generator=chance, device=device)
