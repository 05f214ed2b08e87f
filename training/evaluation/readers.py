"""Readers: two small classifiers that learn from the painter's pictures what words look like."""

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.evaluation import eyes
from training.learning.chance import number
from training.painter.paint import paint
from training.scenes import Landscape, Scene, Shape, Still, draw_scene
from training.words import COLOURS, LAND_WORDS, PLACES, SHAPE_WORDS, SKY_WORDS

SHAPES, SKIES, LANDS = list(SHAPE_WORDS), list(SKY_WORDS), list(LAND_WORDS)
_SIDE = 128
_AT_ONCE = 32


@dataclass(frozen=True)
class Reader:
    """A classifier with the words that it tells apart."""

    words: list[str]
    net: nn.Module
    accuracy: float
    """On painter's pictures that it did not learn from, 0..1."""

    @torch.no_grad()
    def read(self, features: Tensor) -> str:
        """Return the word for one picture's features."""
        return self.words[int(self.net(features[None]).argmax())]


@dataclass(frozen=True)
class Readers:
    """All that the evaluation has learnt."""

    shape: Reader
    sky: Reader
    land: Reader


def learn_readers(seed: int = 3, shapes: int = 900, landscapes: int = 900) -> Readers:
    """Learn from freshly painted pictures; a sixth of them only measures."""
    outlines, names = _outlines(shapes, seed)
    features, skies, lands = _landscapes(landscapes, seed)
    return Readers(
        _learnt(SHAPES, outlines.flatten(1), names, seed),
        _learnt(SKIES, features, skies, seed),
        _learnt(LANDS, features, lands, seed),
    )


def _learnt(words: list[str], features: Tensor, labels: Tensor, seed: int) -> Reader:
    kept = len(features) // 6
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(features.shape[1], 96), nn.GELU(), nn.Dropout(0.1), nn.Linear(96, len(words))
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    learnt, told = features[kept:], labels[kept:]
    for _ in range(400):
        rows = torch.randint(len(learnt), (128,))
        loss = functional.cross_entropy(net(learnt[rows]), told[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = (net(features[:kept]).argmax(1) == labels[:kept]).float().mean()
    return Reader(words, net, float(right))


def _outlines(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = random.Random(number(seed, "outlines"))
    scenes: list[Scene] = []
    for index in range(count):
        colour, other = rng.sample(list(COLOURS), 2)
        size, place = rng.choice(["", "small", "big"]), "center"
        if size == "":
            place = rng.choice(list(PLACES))
        shape = Shape(SHAPES[index % len(SHAPES)], colour, size, place)
        style = rng.choice(["", "", "watercolour"])
        scenes.append(Still((shape,), other, style, rng.randrange(1 << 30)))
    outlines, labels = [], []
    for picture, scene in zip(painted(scenes, _SIDE), scenes, strict=True):
        seen = eyes.shapes(picture)
        if seen and isinstance(scene, Still):
            outlines.append(seen[0].outline)
            labels.append(SHAPES.index(scene.shapes[0].name))
    return torch.stack(outlines), torch.tensor(labels)


def _landscapes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = random.Random(number(seed, "landscapes"))
    scenes: list[Landscape] = []
    while len(scenes) < count:
        scene = draw_scene(rng)
        if isinstance(scene, Landscape):
            scenes.append(replace(scene, style=""))
    features = torch.stack([eyes.bands(picture) for picture in painted(scenes, _SIDE)])
    skies = torch.tensor([SKIES.index(scene.sky) for scene in scenes])
    return features, skies, torch.tensor([LANDS.index(scene.land) for scene in scenes])


def painted(scenes: "list[Scene] | list[Landscape]", side: int) -> list[Tensor]:
    """Paint square pictures, some at a time."""
    pictures: list[Tensor] = []
    for start in range(0, len(scenes), _AT_ONCE):
        some: list[Scene] = list(scenes[start : start + _AT_ONCE])
        pictures += list(paint(some, side, side))
    return pictures
