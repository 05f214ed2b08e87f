"""The stock encoder's phase: it learns to say what the patch encoder says."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from training.learning.codec_phase import CodecLearner, Judged, crops, slope, there_and_back
from training.learning.settings import Settings
from training.model.sizes import LATENTS


class EncoderLearner(Judged):
    """Learns the encoder of the codec that is shipped; everything else stands still.

    No picture of the service needs it. It is there so that the codec is whole.
    """

    def __init__(self, settings: Settings, learnt: CodecLearner) -> None:
        self._settings, self._learnt = settings, learnt
        self.encoder = learnt.codec.encoder
        self._optimizer = torch.optim.AdamW(
            self.encoder.parameters(), lr=settings.codec.rate, betas=(0.9, 0.95)
        )

    def step(self, number: int, part: float) -> dict[str, float]:
        pictures = crops(self._settings, "encoder", number, part)
        self._learnt.encoder.eval()
        with torch.no_grad():
            wanted = self._learnt.encoder(pictures)
        loss = functional.mse_loss(self._means(pictures), wanted)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.codec.rate * min(1.0, (number + 1) / 30) * slope(part)
        self._optimizer.step()
        return {"loss": loss.item()}

    def _means(self, pictures: Tensor) -> Tensor:
        said: Tensor = self.encoder(pictures)[:, :LATENTS]
        return said

    def state(self) -> dict[str, Any]:
        return {"encoder": self.encoder.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.encoder.load_state_dict(state["encoder"])
        self._optimizer.load_state_dict(state["optimizer"])

    @override
    def _shown(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        decoder = self._learnt.codec.decoder
        return there_and_back(self._settings, self._means, decoder, count, side)
