"""The codec's phase: freshly painted crops, there and back."""

import math
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.learning.chance import number
from training.learning.settings import Settings
from training.learning.shards import noise_like
from training.learning.sheets import save_picture, sheet
from training.model.codec import Normalised, decibels, loss_of, make_codec
from training.painter.paint import paint
from training.scenes import draw_scene

_LATE = 0.7
"""From here on crops are larger: norms see the whole of a picture when it is drawn."""
_CROPS_OF_SCENE = 2


class CodecLearner:
    """Learns the codec; both halves of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        torch.manual_seed(settings.seed)
        self.codec = make_codec(settings.sizes).to(settings.device)
        self.codec.to(memory_format=torch.channels_last)
        self.encoder = Normalised(self.codec.encoder).to(settings.device)
        self._parameters = [*self.encoder.parameters(), *self.codec.decoder.parameters()]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.codec.rate, betas=(0.9, 0.99), weight_decay=1e-4
        )

    def step(self, number: int, part: float) -> dict[str, float]:
        wanted = self._crops(number, part)
        mixed = self._settings.device != "cpu"
        with torch.autocast(self._settings.device, torch.bfloat16, enabled=mixed):
            latents = self.encoder(wanted)
            noise = noise_like(latents, self._settings.seed, "codec", number)
            drawn = self.codec.decoder(latents + self._settings.codec.noise * noise)
        drawn = drawn.float()
        loss = loss_of(drawn, wanted)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        slope = 0.5 * (1 + math.cos(math.pi * part)) * 0.97 + 0.03
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.codec.rate * min(1.0, (number + 1) / 100) * slope
        self._optimizer.step()
        return {"loss": loss.item(), "dB": decibels(drawn.detach(), wanted)}

    def _crops(self, step: int, part: float) -> Tensor:
        """Crops of scenes painted at one of several sizes, by the step's own chance."""
        codec, seed = self._settings.codec, self._settings.seed
        side = codec.crop if part < _LATE else codec.late_crop
        rng = random.Random(number(seed, "codec", step))
        size = side * rng.choice((1, 2, 2, 3))
        scenes = [draw_scene(rng) for _ in range(max(1, codec.batch // _CROPS_OF_SCENE))]
        pictures = paint(scenes, size, size, self._settings.device)
        crops = []
        for index in range(codec.batch):
            left, top = rng.randint(0, size - side), rng.randint(0, size - side)
            crops.append(pictures[index % len(scenes), :, top : top + side, left : left + side])
        whole = torch.stack(crops) * 2 - 1
        return whole.contiguous(memory_format=torch.channels_last)

    def state(self) -> dict[str, Any]:
        return {
            "codec": self.codec.state_dict(),
            "norm": self.encoder.norm.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.encoder.norm.load_state_dict(state["norm"])
        self._optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        wanted, drawn = self._shown(6, 512)
        save_picture(path, sheet(torch.cat([wanted, drawn]) / 2 + 0.5, 6))

    def _shown(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        rng = random.Random(number(self._settings.seed, "shown"))
        scenes = [draw_scene(rng, kept=True) for _ in range(count)]
        self.encoder.eval()
        wanted, drawn = [], []
        for scene in scenes:
            picture = paint([scene], side, side, self._settings.device) * 2 - 1
            wanted.append(picture)
            drawn.append(self.codec.decoder(self.encoder(picture)).float())
        self.encoder.train()
        return torch.cat(wanted), torch.cat(drawn)

    @torch.no_grad()
    def fidelity(self, count: int = 24, side: int = 512) -> dict[str, float]:
        """Return the mean and the worst decibels of held-out scenes, whole."""
        wanted, drawn = self._shown(count, side)
        found = [decibels(a, b) for a, b in zip(drawn, wanted, strict=True)]
        return {"mean": sum(found) / count, "worst": min(found)}
