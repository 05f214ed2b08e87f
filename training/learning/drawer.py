"""What learns to draw: text encoder and transformer together."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from training.learning.settings import Settings
from training.model.text import encode, make_encoder
from training.model.transformer import Pass, make_transformer, passed


class Drawer(nn.Module):
    """Text encoder and transformer, which learn together."""

    def __init__(self, settings: Settings, vocabulary: int) -> None:
        super().__init__()
        self.encoder: Any = make_encoder(vocabulary, settings.sizes)
        self.transformer: Any = make_transformer(settings.sizes)
        last = f"encoder.layers.{settings.sizes.text_layers - 1}."
        self._unread = (last, "encoder.norm.")

    @override
    def forward(self, latents: Tensor, time: Tensor, ids: Tensor, known: Tensor) -> Tensor:
        """Return x0 - noise of latents at 1 - sigma = `time`, told by the captions' tokens."""
        return self.passed(latents, time, ids, known).direction

    def passed(
        self,
        latents: Tensor,
        time: Tensor,
        ids: Tensor,
        known: Tensor,
        places: tuple[int, int] = (1, 0),
    ) -> Pass:
        """The same, with what was thought on the way and tokens further apart, in float32."""
        found = passed(self.transformer, latents, time, self.said(ids), known, places)
        return Pass(found.direction.float(), found.words.float(), found.early.float())

    def said(self, ids: Tensor) -> Tensor:
        """Return what the pipeline takes of the text encoder, n x length x width."""
        return encode(self.encoder, ids)

    def read_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All but those without a part in the pictures: the encoder's last layer and its norm."""
        for name, parameter in self.named_parameters():
            if not name.startswith(self._unread):
                yield name, parameter
