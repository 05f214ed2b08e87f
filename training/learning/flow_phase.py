"""The transformer's phases: the flow from noise to picture, then the same in eight steps."""

import copy
import itertools
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from training.captions import misnamed
from training.learning.chance import generator, number
from training.learning.drawer import Drawer
from training.learning.optimizers import Pair, follow, rate
from training.learning.records import Heads
from training.learning.settings import FORWARDS, LATE_SHIFT, SHIFT, Settings
from training.learning.shards import Batch, Shards, noise_like
from training.learning.sheets import save_picture, sheet
from training.model.sizes import DOWN, LATENTS
from training.model.text import MULTIPLE, padded, tokens
from training.model.transformer import Pass

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


def schedule(steps: int) -> Tensor:
    """Return the sigmas of so many steps and the 0 after them, as the scheduler makes them."""
    return shifted(1 - torch.arange(steps + 1) / steps, SHIFT)


def shifted(plain: Tensor, shift: float) -> Tensor:
    """Return noise levels 0..1 moved towards noise, as `FlowMatchEulerDiscreteScheduler` does."""
    return shift * plain / (1 + (shift - 1) * plain)


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
        self.heads = Heads(settings.sizes.dim).to(settings.device)
        self.pair = self._optimizers(1.0)

    def _optimizers(self, part: float) -> Pair:
        flow, used = self.settings.flow, self.model.read_parameters()
        named = [*used, *self.heads.named_parameters()]
        return Pair(named, flow.matrix_rate * part, flow.other_rate * part)

    def begin_from(self, state: dict[str, Any]) -> None:
        """Take over what the words' phase learnt."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])

    def step(self, number: int, part: float) -> dict[str, float]:
        batch = self.shards.batch(self.phase, number, self.late(part), self._ready)
        with torch.autocast(self.settings.device, torch.bfloat16, enabled=self._mixed):
            loss = self.loss(batch, number, part)
        self.pair.step(loss, rate(number, part))
        follow(self.average, self.model, number)
        return {"loss": loss.item()}

    def late(self, part: float) -> float:
        """Return the part of the phase, as the canvases are chosen."""
        return part

    @property
    def _mixed(self) -> bool:
        return self.settings.device != "cpu"

    def loss(self, batch: Batch, step: int, part: float) -> Tensor:
        """Squared error of the direction at noise levels spread over a schedule, and the lesson.

        While a picture's noise hides less than all of it, what it will show is plain to see, and
        its caption teaches nothing: so the schedule begins with much noise.
        """
        flow, clean = self.settings.flow, batch.latents
        noise = noise_like(clean, self.settings.seed, self.phase, step)
        sigma = self._levels(len(clean), step, part)
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        found = self.model.passed(
            mixed, 1 - sigma, batch.ids, self.known(batch.ids), batch.places
        )
        error = functional.mse_loss(found.direction, clean - noise)
        return error + flow.lesson * (1 - part) * self._lesson(found, batch, step)

    def _lesson(self, found: Pass, batch: Batch, step: int) -> Tensor:
        """How wrong words and picture are about the records, of those with a caption."""
        told = ~batch.untold
        chance = generator(self.settings.device, self.settings.seed, self.phase, step, "lesson")
        records, columns = batch.records[told], batch.latents.shape[-1] // 2
        words = self.heads.of_words(found.words[told], records, chance)
        return words + self.heads.of_picture(found.early[told], columns, records, chance)

    def _levels(self, count: int, step: int, part: float) -> Tensor:
        device, early = self.settings.device, self.settings.flow.early_shift
        chance = generator(device, self.settings.seed, self.phase, step, "levels")
        offsets = torch.rand(count, generator=chance, device=device)
        plain = (torch.arange(count, device=device) + offsets) / count
        return shifted(plain, early + (LATE_SHIFT - early) * part)

    def known(self, ids: Tensor) -> Tensor:
        """Return what is caption and not filler."""
        filler: int = self.tokenizer.pad_token_id
        return ids.ne(filler)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": self.pair.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.heads.load_state_dict(state["heads"])
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

    The teacher may exaggerate the caption (its direction with it, away from that without), and the
    names of shapes beyond that (away from that with other names): it costs the teacher a forward
    each, and the pupil nothing.
    """

    phase = "few-step"

    def __init__(
        self, settings: Settings, shards: Shards, tokenizer: Any, ready: int | None
    ) -> None:
        super().__init__(settings, shards, tokenizer, ready)
        self.teacher = copy.deepcopy(self.average)
        self._empty = shards.empty().to(settings.device)

    @override
    def begin_from(self, state: dict[str, Any]) -> None:
        """Take the flow's averaged weights, for teacher and pupil."""
        for each in (self.model, self.average, self.teacher):
            each.load_state_dict(state["average"])
        self.pair = self._optimizers(self.settings.flow.few_rate)

    @override
    def late(self, part: float) -> float:
        return 1.0

    @override
    def loss(self, batch: Batch, step: int, part: float) -> Tensor:
        clean = batch.latents
        noise = noise_like(clean, self.settings.seed, self.phase, step)
        sigmas = schedule(FORWARDS).to(clean.device)
        chance = generator("cpu", self.settings.seed, self.phase, step, "levels")
        level = torch.randint(FORWARDS, (len(clean),), generator=chance).to(clean.device)
        now, after = sigmas[level], sigmas[level + 1]
        start = torch.lerp(clean, noise, now[:, None, None, None])
        with torch.no_grad():
            end = self._taught(start, (now, after), batch, self._shunned(batch.ids, step))
        wanted = (end - start) / (now - after)[:, None, None, None]
        found = self.model.passed(
            start, 1 - now, batch.ids, self.known(batch.ids), batch.places
        )
        return functional.mse_loss(found.direction, wanted)

    def _shunned(self, ids: Tensor, step: int) -> list[tuple[float, Tensor]]:
        """Return the captions that the teacher leads away from, and by how much."""
        flow = self.settings.flow
        shunned = []
        if flow.guidance != 1.0:
            shunned.append((flow.guidance - 1, self._empty.expand(len(ids), -1)))
        if flow.contrast:
            shunned.append((flow.contrast, self._misnamed(ids, step)))
        return shunned

    def _misnamed(self, ids: Tensor, step: int) -> Tensor:
        """Return the captions with their shapes called otherwise."""
        rng = random.Random(number(self.settings.seed, self.phase, step, "misnamed"))
        captions = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        found = tokens(self.tokenizer, [misnamed(caption, rng) for caption in captions])
        filler = self.tokenizer.pad_token_id
        rows = [padded(one, ids.shape[1], filler) for one in found]
        return torch.tensor(rows, device=ids.device)

    def _taught(
        self,
        latents: Tensor,
        levels: tuple[Tensor, Tensor],
        batch: Batch,
        shunned: list[tuple[float, Tensor]],
    ) -> Tensor:
        """Go from one level to the other in the teacher's small steps."""
        count = self.settings.flow.teacher_steps
        now, after = levels
        stride = (now - after) / count
        for index in range(count):
            time = 1 - (now - index * stride)
            told = directed = self._taught_by(latents, time, batch.ids, batch.places)
            for by, ids in shunned:
                other = self._taught_by(latents, time, ids, batch.places)
                directed = directed + by * (told - other)
            latents = latents + stride[:, None, None, None] * directed
        return latents

    def _taught_by(
        self, latents: Tensor, time: Tensor, ids: Tensor, places: tuple[int, int]
    ) -> Tensor:
        return self.teacher.passed(latents, time, ids, self.known(ids), places).direction

    @override
    def state(self) -> dict[str, Any]:
        return {**super().state(), "teacher": self.teacher.state_dict()}

    @override
    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.teacher.load_state_dict(state["teacher"])
