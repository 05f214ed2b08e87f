"""The scene's record as numbers, and heads that must tell it: a lesson beside the pictures.

How far a picture is from the wanted one says little about which words matter: from pictures alone
the transformer learns colours and grounds at once, and outlines after all else. To tell what is to
be seen, by its name, is a lesson of seconds. The heads are not part of the model.
"""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.scenes import Landscape, Pattern, Scene, Still
from training.words import (
    COLOURS,
    LAND_WORDS,
    OBJECT_WORDS,
    PATTERN_WORDS,
    PLACES,
    SHAPE_WORDS,
    SIZE_WORDS,
    SKY_WORDS,
    STYLE_WORDS,
)

_SHAPE: tuple[tuple[str, ...], ...] = tuple(
    tuple(words) for words in (SHAPE_WORDS, COLOURS, SIZE_WORDS, PLACES)
)
_CHOICES: tuple[tuple[str, ...], ...] = (
    *_SHAPE,
    *_SHAPE,
    ("1", "2", "3"),
    tuple(COLOURS),
    tuple(LAND_WORDS),
    tuple(SKY_WORDS),
    tuple(PATTERN_WORDS),
    tuple(COLOURS),
    tuple(COLOURS),
    tuple(STYLE_WORDS),
)
"""Two shapes, their number, background; land, sky; pattern and its colours; style."""
_NUMBER = 2 * len(_SHAPE)
_LAND, _PATTERN, _STYLE = _NUMBER + 2, _NUMBER + 4, _NUMBER + 7
"""Where in them these begin."""
_WIDTHS = [1 + len(words) for words in _CHOICES]
_OBJECTS = tuple(OBJECT_WORDS)
_TOLD = sum(_WIDTHS) + len(_OBJECTS)
_ASKED = 4
"""Tokens of each picture and caption that are asked at a step."""


def record(scene: Scene) -> list[int]:
    """Return its choices, 0 for what it has none of, then 0 or 1 for each thing in a landscape."""
    said: list[str] = [""] * len(_CHOICES)
    things: tuple[str, ...] = ()
    match scene:
        case Still():
            shapes = [(s.name, s.colour, s.size, s.place) for s in scene.shapes[:2]]
            for index, shape in enumerate(shapes):
                said[4 * index : 4 * index + 4] = shape
            said[_NUMBER : _NUMBER + 2] = str(len(scene.shapes)), scene.background
        case Landscape():
            said[_LAND : _LAND + 2] = scene.land, scene.sky
            things = scene.objects
        case Pattern():
            said[_PATTERN : _PATTERN + 3] = scene.name, scene.first, scene.second
        case _:
            assert_never(scene)
    said[_STYLE] = scene.style
    chosen = [
        1 + words.index(word) if word in words else 0
        for word, words in zip(said, _CHOICES, strict=True)
    ]
    return [*chosen, *(int(thing in things) for thing in _OBJECTS)]


def is_still(records: Tensor) -> Tensor:
    """Which of the records n x .. are of still lifes."""
    return records[:, _NUMBER] > 0


class Heads(nn.Module):
    """Tell the record from a caption's tokens, and from a picture's: with these their place, too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.words = nn.Linear(width, _TOLD)
        self.picture = nn.Linear(width, _TOLD)
        self.place = nn.Linear(width, 2)

    def of_words(self, words: Tensor, records: Tensor, chance: torch.Generator) -> Tensor:
        """Return how wrong some tokens n x length x width of captions are about the records."""
        return _wrong(self.words(self.norm(_some(words, chance)[0])), records)

    def of_picture(
        self, picture: Tensor, columns: int, records: Tensor, chance: torch.Generator
    ) -> Tensor:
        """The same of picture tokens in rows of `columns`, and of their places, -1..1."""
        some, asked = _some(picture, chance)
        some, rows = self.norm(some), picture.shape[1] // columns
        across, down = (asked % columns + 0.5) / columns, (asked // columns + 0.5) / rows
        places = torch.stack([across, down], -1) * 2 - 1
        lost = functional.mse_loss(self.place(some), places)
        return _wrong(self.picture(some), records) + 3 * lost


def _some(tokens: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    count, length = tokens.shape[:2]
    asked = torch.randint(length, (count, _ASKED), generator=chance, device=tokens.device)
    return tokens[torch.arange(count, device=tokens.device)[:, None], asked], asked


def _wrong(told: Tensor, records: Tensor) -> Tensor:
    """Cross entropy: the mean over the choices, and that over the things."""
    records = records.repeat_interleave(_ASKED, 0).long()
    parts = torch.split(told.flatten(0, 1), [*_WIDTHS, len(_OBJECTS)], 1)
    choices = torch.stack(
        [
            functional.cross_entropy(part, records[:, index])
            for index, part in enumerate(parts[:-1])
        ]
    )
    things = records[:, len(_WIDTHS) :].float()
    return choices.mean() + functional.binary_cross_entropy_with_logits(parts[-1], things)
