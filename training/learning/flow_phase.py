"""The transformer's phases: the flow from noise to picture, then the same in eight steps."""

import copy
import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from training.learning.chance import generator, number
from training.learning.optimizers import Pair, follow, rate
from training.learning.settings import FORWARDS, SHIFT, Settings
from training.learning.shards import Batch, Shards, noise_like
from training.learning.sheets import save_picture, sheet
from training.model.sizes import DOWN, LATENTS
from training.model.text import MULTIPLE, encode, make_encoder, padded, tokens
from training.model.transformer import make_transformer, velocity

SHOWN = (
    "a sunset over mountains",
    "a red circle on a blue background",
    "a boat on the sea at night with a full moon",
    "a house in a meadow on a sunny day",
    "a city skyline at night",
    "three green squares on an orange background",
    "a purple triangle in the top left corner on a white background",
    "a hot air balloon over a desert at sunset",
    "red and white vertical stripes",
    "a lighthouse in a storm",
    "a forest in the snow",
    "a cat riding a bicycle",
)
"""What the sample sheets show: the last one is of words that nobody taught."""


class Drawer(nn.Module):
    """Text encoder and transformer, which learn together."""

    def __init__(self, settings: Settings, vocabulary: int) -> None:
        super().__init__()
        self.encoder = make_encoder(vocabulary, settings.sizes)
        self.transformer = make_transformer(settings.sizes)

    @override
    def forward(self, latents: Tensor, time: Tensor, ids: Tensor, known: Tensor) -> Tensor:
        """Return x0 - noise of latents at 1 - sigma = `time`, told by the captions' tokens."""
        text = encode(self.encoder, ids)
        found: Tensor = velocity(self.transformer, latents, time, text, known).float()
        return found


def schedule(steps: int) -> Tensor:
    """Return the sigmas of so many steps and the 0 after them, as the scheduler makes them."""
    plain = 1 - torch.arange(steps + 1) / steps
    return SHIFT * plain / (1 + (SHIFT - 1) * plain)


class FlowLearner:
    """Learns the direction from noise to picture at any noise level."""

    phase = "flow"

    def __init__(
        self, settings: Settings, shards: Shards, tokenizer: Any, ready: int | None
    ) -> None:
        self.settings, self.shards, self.tokenizer = settings, shards, tokenizer
        self._ready = ready
        torch.manual_seed(settings.seed)
        self.model = Drawer(settings, len(tokenizer)).to(settings.device)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.pair = self._optimizers(1.0)

    def _optimizers(self, part: float) -> Pair:
        flow = self.settings.flow
        used = [
            (name, parameter)
            for name, parameter in self.model.named_parameters()
            if not _unread(name, self.settings.sizes.text_layers)
        ]
        return Pair(used, flow.matrix_rate * part, flow.other_rate * part)

    def step(self, number: int, part: float) -> dict[str, float]:
        batch = self.shards.batch(self.phase, number, part, self._ready)
        with torch.autocast(self.settings.device, torch.bfloat16, enabled=self._mixed):
            loss = self.loss(batch, number)
        self.pair.step(loss, rate(number, part))
        follow(self.average, self.model, number)
        return {"loss": loss.item()}

    @property
    def _mixed(self) -> bool:
        return self.settings.device != "cpu"

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Squared error of the direction, at noise levels spread evenly over the schedule."""
        clean = batch.latents
        noise = noise_like(clean, self.settings.seed, self.phase, step)
        sigma = self._levels(len(clean), step)
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        found = self.model(mixed, 1 - sigma, batch.ids, self.known(batch.ids))
        return functional.mse_loss(found, clean - noise)

    def _levels(self, count: int, step: int) -> Tensor:
        device = self.settings.device
        chance = generator(device, self.settings.seed, self.phase, step, "levels")
        offsets = torch.rand(count, generator=chance, device=device)
        plain = (torch.arange(count, device=device) + offsets) / count
        return SHIFT * plain / (1 + (SHIFT - 1) * plain)

    def known(self, ids: Tensor) -> Tensor:
        """Return what is caption and not filler."""
        filler: int = self.tokenizer.pad_token_id
        return ids.ne(filler)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": self.pair.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.pair.restore(state["optimizers"])

    # ------------------------------------------------------------ what it shows

    decoder: Any = None
    """Turns latents to pictures for the sheets; none are made without it."""

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        if self.decoder is None:
            return
        latents = self.drawn(list(SHOWN), 512, 512, FORWARDS)
        pictures = torch.cat([self.decoder(one[None]).float() for one in latents])
        save_picture(path, sheet(pictures / 2 + 0.5, 4))

    @torch.no_grad()
    def drawn(self, captions: list[str], width: int, height: int, steps: int) -> Tensor:
        """Return latents of captions of up to 32 tokens, as the pipeline's scheduler steps."""
        device, filler = self.settings.device, self.tokenizer.pad_token_id
        rows = [padded(found, MULTIPLE, filler) for found in tokens(self.tokenizer, captions)]
        ids = torch.tensor(rows, device=device)
        shape = (len(captions), LATENTS, height // DOWN, width // DOWN)
        chance = torch.Generator().manual_seed(number(self.settings.seed, "drawn"))
        latents = torch.randn(shape, generator=chance).to(device)
        sigmas = schedule(steps).tolist()
        for now, after in itertools.pairwise(sigmas):
            time = torch.full((len(ids),), 1 - now, device=device)
            latents = latents + (now - after) * self.average(
                latents, time, ids, self.known(ids)
            )
        return latents


class FewStepLearner(FlowLearner):
    """Learns to go in one step where the finished flow goes in several, at the eight levels drawn.

    The teacher may exaggerate the caption (its direction with it, away from that without), which
    costs it a second forward and the pupil nothing.
    """

    phase = "few-step"

    def __init__(
        self, settings: Settings, shards: Shards, tokenizer: Any, ready: int | None
    ) -> None:
        super().__init__(settings, shards, tokenizer, ready)
        self.teacher = copy.deepcopy(self.average)
        self._empty = shards.empty().to(settings.device)

    def begin_from(self, flow: dict[str, Any]) -> None:
        """Take the flow's averaged weights, for teacher and pupil."""
        for each in (self.model, self.average, self.teacher):
            each.load_state_dict(flow["average"])
        self.pair = self._optimizers(self.settings.flow.few_rate)

    @override
    def loss(self, batch: Batch, step: int) -> Tensor:
        clean = batch.latents
        noise = noise_like(clean, self.settings.seed, self.phase, step)
        sigmas = schedule(FORWARDS).to(clean.device)
        chance = generator("cpu", self.settings.seed, self.phase, step, "levels")
        level = torch.randint(FORWARDS, (len(clean),), generator=chance).to(clean.device)
        now, after = sigmas[level], sigmas[level + 1]
        start = torch.lerp(clean, noise, now[:, None, None, None])
        with torch.no_grad():
            end = self._taught(start, (now, after), batch.ids)
        wanted = (end - start) / (now - after)[:, None, None, None]
        found = self.model(start, 1 - now, batch.ids, self.known(batch.ids))
        return functional.mse_loss(found, wanted)

    def _taught(self, latents: Tensor, levels: tuple[Tensor, Tensor], ids: Tensor) -> Tensor:
        """Go from one level to the other in the teacher's small steps."""
        count = self.settings.flow.teacher_steps
        now, after = levels
        stride = (now - after) / count
        for index in range(count):
            time = 1 - (now - index * stride)
            direction = self._directed(latents, time, ids)
            latents = latents + stride[:, None, None, None] * direction
        return latents

    def _directed(self, latents: Tensor, time: Tensor, ids: Tensor) -> Tensor:
        told: Tensor = self.teacher(latents, time, ids, self.known(ids))
        guidance = self.settings.flow.guidance
        if guidance == 1.0:
            return told
        empty = self._empty.expand(len(latents), -1)
        untold = self.teacher(latents, time, empty, self.known(empty))
        return torch.lerp(untold, told, guidance)

    @override
    def state(self) -> dict[str, Any]:
        return {**super().state(), "teacher": self.teacher.state_dict()}

    @override
    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.teacher.load_state_dict(state["teacher"])


def _unread(name: str, text_layers: int) -> bool:
    """Whether a weight has no part in the pictures: the encoder's last layer and its norm."""
    last = f"encoder.layers.{text_layers - 1}."
    return name.startswith((last, "encoder.norm."))
