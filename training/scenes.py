"""What is to be seen in a picture: the record beside each caption, and how one is drawn by lot."""

import hashlib
import random
from dataclasses import dataclass

from training.words import (
    COLOURS,
    LAND_WORDS,
    OBJECT_HOMES,
    PATTERN_WORDS,
    PLACES,
    SHAPE_WORDS,
    SIZE_WORDS,
    SKY_WORDS,
    STYLE_WORDS,
)

HELD_OUT = 0.10
"""The part of the combinations that training never sees."""
_PLAIN = 0.7
"""The part of the pictures without a style."""
_OBJECT_CHOICES = (0, 1, 1, 2, 2, 3)


@dataclass(frozen=True)
class Shape:
    """One coloured shape."""

    name: str
    colour: str
    size: str = ""
    place: str = "center"


@dataclass(frozen=True)
class Still:
    """Coloured shapes on a plain background: one, two unlike ones side by side, or 2-3 alike."""

    shapes: tuple[Shape, ...]
    background: str
    style: str = ""
    seed: int = 0

    @property
    def alike(self) -> bool:
        """Whether there are several, which one word names."""
        return len(self.shapes) > 1 and len({(s.name, s.colour) for s in self.shapes}) == 1

    @property
    def combination(self) -> str:
        """What is seen, whatever its words, style and chances."""
        seen = ",".join(f"{s.colour} {s.size} {s.name} {s.place}" for s in self.shapes)
        return f"still {seen} on {self.background}"


@dataclass(frozen=True)
class Pattern:
    """Two colours all over the picture."""

    name: str
    first: str
    second: str
    style: str = ""
    seed: int = 0

    @property
    def combination(self) -> str:
        """What is seen, whatever its words, style and chances."""
        return f"pattern {self.name} {self.first} {self.second}"


@dataclass(frozen=True)
class Landscape:
    """A land under a sky, with things in it."""

    land: str
    sky: str
    objects: tuple[str, ...] = ()
    style: str = ""
    seed: int = 0

    @property
    def combination(self) -> str:
        """What is seen, whatever its words, style and chances."""
        return f"landscape {self.land} {self.sky} {' '.join(sorted(self.objects))}"


Scene = Still | Pattern | Landscape


def held_out(scene: Scene) -> bool:
    """Whether the combination is kept from training, by its hash: for ever the same ones."""
    digest = hashlib.sha256(scene.combination.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def draw_scene(rng: random.Random, *, kept: bool = False) -> Scene:
    """Draw a scene by lot: one of training, or (`kept`) one that training never sees."""
    while True:
        chosen = rng.choices((_landscape, _one, _two, _several, _pattern), (50, 20, 9, 14, 7))[
            0
        ]
        scene = chosen(rng)
        if held_out(scene) == kept:
            return scene


def _style(rng: random.Random) -> str:
    return "" if rng.random() < _PLAIN else rng.choice([name for name in STYLE_WORDS if name])


def _seed(rng: random.Random) -> int:
    return rng.randrange(1 << 30)


def _landscape(rng: random.Random) -> Landscape:
    land, sky = rng.choice(list(LAND_WORDS)), rng.choice(list(SKY_WORDS))
    fitting = [
        name for name, (lands, skies) in OBJECT_HOMES.items() if land in lands and sky in skies
    ]
    count = min(rng.choice(_OBJECT_CHOICES), len(fitting))
    return Landscape(land, sky, tuple(rng.sample(fitting, count)), _style(rng), _seed(rng))


def _one(rng: random.Random) -> Still:
    colour, background = rng.sample(list(COLOURS), 2)
    place = rng.choice(list(PLACES)) if rng.random() < 0.5 else "center"
    sizes = list(SIZE_WORDS) if place == "center" else [""]
    shape = Shape(rng.choice(list(SHAPE_WORDS)), colour, rng.choice(sizes), place)
    return Still((shape,), background, _style(rng), _seed(rng))


def _two(rng: random.Random) -> Still:
    first, second, background = rng.sample(list(COLOURS), 3)
    one, other = rng.sample(list(SHAPE_WORDS), 2)
    places = ("left", "right") if rng.random() < 0.7 else ("top", "bottom")
    shapes = (Shape(one, first, "", places[0]), Shape(other, second, "", places[1]))
    return Still(shapes, background, _style(rng), _seed(rng))


def _several(rng: random.Random) -> Still:
    colour, background = rng.sample(list(COLOURS), 2)
    name = rng.choice(list(SHAPE_WORDS))
    row = ("left", "right") if rng.random() < 0.5 else ("left", "center", "right")
    shapes = tuple(Shape(name, colour, "", place) for place in row)
    return Still(shapes, background, _style(rng), _seed(rng))


def _pattern(rng: random.Random) -> Pattern:
    first, second = rng.sample(list(COLOURS), 2)
    return Pattern(rng.choice(list(PATTERN_WORDS)), first, second, _style(rng), _seed(rng))
