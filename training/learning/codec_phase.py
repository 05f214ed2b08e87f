"""The codec's phase: decoder and patch encoder learn from freshly painted crops."""

import math
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from training.learning.chance import number
from training.learning.settings import Settings
from training.learning.shards import noise_like
from training.learning.sheets import save_picture, sheet
from training.model.codec import PatchEncoder, decibels, loss_of, make_codec
from training.painter.paint import paint
from training.scenes import draw_scene

_LATE = 0.7
"""From here on crops are larger: norms see the whole of a picture when it is drawn."""
_CROPS_OF_SCENE = 2


class Judged(ABC):
    """What is judged by held-out scenes that went there and back."""

    @abstractmethod
    def _shown(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Return so many scenes, n x 3 x side x side, -1..1, and what became of them."""

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """Write some of them, with what became of them below."""
        wanted, drawn = self._shown(6, 512)
        save_picture(path, sheet(torch.cat([wanted, drawn]) / 2 + 0.5, 6))

    @torch.no_grad()
    def fidelity(self, count: int, side: int = 512) -> dict[str, float]:
        """Return the mean and the worst decibels of so many."""
        wanted, drawn = self._shown(count, side)
        found = [decibels(a, b) for a, b in zip(drawn, wanted, strict=True)]
        return {"mean": round(sum(found) / count, 2), "worst": round(min(found), 2)}


class CodecLearner(Judged):
    """Learns the decoder, and with it the patch encoder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        torch.manual_seed(settings.seed)
        self.codec = make_codec(settings.sizes).to(settings.device)
        self.codec.to(memory_format=torch.channels_last)
        self.encoder = PatchEncoder().to(settings.device)
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parameters = [*self.encoder.parameters(), *self.codec.decoder.parameters()]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.codec.rate, betas=(0.9, 0.95), weight_decay=1e-4
        )

    def step(self, number: int, part: float) -> dict[str, float]:
        wanted = crops(self._settings, "codec", number, part)
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
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.codec.rate * min(1.0, (number + 1) / 100) * slope(part)
        self._optimizer.step()
        return {"loss": loss.item(), "dB": decibels(drawn.detach(), wanted)}

    def state(self) -> dict[str, Any]:
        return {
            "codec": self.codec.state_dict(),
            "encoder": self.encoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.encoder.load_state_dict(state["encoder"])
        self._optimizer.load_state_dict(state["optimizer"])

    @override
    def _shown(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        self.encoder.eval()
        try:
            return there_and_back(self._settings, self.encoder, self.codec.decoder, count, side)
        finally:
            self.encoder.train()


def crops(settings: Settings, phase: str, step: int, part: float) -> Tensor:
    """Return crops -1..1 of scenes painted at one of several sizes, by the step's own chance."""
    codec, seed = settings.codec, settings.seed
    side = codec.crop if part < _LATE else codec.late_crop
    rng = random.Random(number(seed, phase, step))
    size = side * rng.choice((1, 2, 2, 3))
    scenes = [draw_scene(rng) for _ in range(max(1, codec.batch // _CROPS_OF_SCENE))]
    pictures = paint(scenes, size, size, settings.device)
    cut = []
    for index in range(codec.batch):
        left, top = rng.randint(0, size - side), rng.randint(0, size - side)
        cut.append(pictures[index % len(scenes), :, top : top + side, left : left + side])
    return (torch.stack(cut) * 2 - 1).contiguous(memory_format=torch.channels_last)


def there_and_back(
    settings: Settings, encoder: Any, decoder: Any, count: int, side: int
) -> tuple[Tensor, Tensor]:
    """Return held-out scenes, n x 3 x side x side, -1..1, and what becomes of them."""
    rng = random.Random(number(settings.seed, "shown"))
    wanted, drawn = [], []
    for _ in range(count):
        picture = paint([draw_scene(rng, kept=True)], side, side, settings.device) * 2 - 1
        wanted.append(picture)
        drawn.append(decoder(encoder(picture)).float())
    return torch.cat(wanted), torch.cat(drawn)


def slope(part: float) -> float:
    """Return the part of the full rate: half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * part)) * 0.97 + 0.03
