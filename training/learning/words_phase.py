"""The words' phase: the text side learns to say what a caption asks for, before any picture."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.captions import caption
from training.learning.chance import generator, number
from training.learning.drawer import Drawer
from training.learning.optimizers import Pair, rate
from training.learning.records import Heads, record
from training.learning.settings import Settings
from training.model.text import MULTIPLE, padded, tokens
from training.model.transformer import refined
from training.scenes import draw_scene

_TEXT = ("encoder.", "transformer.cap_", "transformer.context_refiner.", "words.")
"""The parameters that it moves, by the beginnings of their names."""


class WordsLearner:
    """Learns the text encoder and the transformer's part that reads it.

    Every token of a caption, fillers too, learns to tell the whole record: wherever a picture's
    token looks, it finds what to draw.
    """

    def __init__(self, settings: Settings, tokenizer: Any) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        torch.manual_seed(settings.seed)
        self.model = Drawer(settings, len(tokenizer)).to(settings.device)
        self.heads = Heads(settings.sizes.dim).to(settings.device)
        flow = settings.flow
        text = [*self.model.read_parameters(), *self.heads.named_parameters()]
        text = [one for one in text if one[0].startswith(_TEXT)]
        self.pair = Pair(
            text, flow.words_rate * flow.matrix_rate, flow.words_rate * flow.other_rate
        )

    def begin_from(self, weights: dict[str, Any]) -> None:
        """Take over text encoder and transformer of an earlier run."""
        self.model.load_state_dict(weights)

    def step(self, number: int, part: float) -> dict[str, float]:
        ids, records = self._captions(number)
        known = ids.ne(self.tokenizer.pad_token_id)
        words = refined(self.model.transformer, self.model.said(ids), known)
        chance = generator(self.settings.device, self.settings.seed, "words", number)
        loss = self.heads.of_words(words, records, chance)
        self.pair.step(loss, rate(number, part))
        return {"loss": loss.item()}

    def _captions(self, step: int) -> tuple[Tensor, Tensor]:
        rng = random.Random(number(self.settings.seed, "words", step))
        scenes = [draw_scene(rng) for _ in range(self.settings.flow.captions)]
        found = tokens(self.tokenizer, [caption(scene, rng) for scene in scenes])
        rows = [padded(one, MULTIPLE, self.tokenizer.pad_token_id) for one in found]
        device = self.settings.device
        records = [record(scene) for scene in scenes]
        return torch.tensor(rows, device=device), torch.tensor(records, device=device)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": self.pair.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.pair.restore(state["optimizers"])

    def sheet(self, path: Path) -> None:
        """Nothing: words are no picture."""
