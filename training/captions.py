"""The caption grammar: a scene's record → one of the many ways to say it."""

import random
import re
from typing import assert_never

from training.scenes import Landscape, Pattern, Scene, Shape, Still
from training.words import (
    COLOUR_WORDS,
    IDLE_WORDS,
    LAND_WORDS,
    NUMBERS,
    OBJECT_WORDS,
    PATTERN_WORDS,
    PLACE_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    SKY_NOUNS,
    SKY_WORDS,
    STYLE_WORDS,
    SYLLABLES,
)

_IDLE = 0.15
_UNKNOWN = 0.08
_BEFORE = ("at ", "in ", "on ", "by ", "under ")
_ON_WATER = ("boat",)
_ON_LAND = ("house", "tree", "lighthouse")


def caption(scene: Scene, rng: random.Random, *, plain: bool = False) -> str:
    """Say a scene. `plain` adds no words without an effect, as the evaluation wants it."""
    said = _said(scene, rng)
    ways = STYLE_WORDS[scene.style]
    if said.startswith(_BEFORE):  # "a picture of in the evening, the sea" is no English
        ways = tuple(way for way in ways if way.startswith("{}"))
    said = rng.choice(ways).format(said)
    if plain:
        return said
    if rng.random() < _IDLE:
        said = _with(said, rng.choice(IDLE_WORDS), rng)
    if rng.random() < _UNKNOWN:
        said = _dropped_in(said, rng)
    return said[0].upper() + said[1:] if rng.random() < 0.3 else said


def long_caption(scene: Scene, rng: random.Random) -> str:
    """Say a scene at length, with much that has no effect: callers write such prompts, too."""
    idle = rng.sample(IDLE_WORDS, 8)
    return ", ".join([caption(scene, rng), *idle])


def misnamed(said: str, rng: random.Random) -> str:
    """Return a caption with every shape in it called another, and all else as it was."""

    def other(found: re.Match[str]) -> str:
        word = found[0].lower()
        names = [name for name, words in SHAPE_WORDS.items() if not _is_one_of(word, words)]
        name = rng.choice(names)
        return name if word in _SINGULARS else _plural(name)

    return _SHAPES.sub(other, said)


def _is_one_of(word: str, names: tuple[str, ...]) -> bool:
    return any(word in (name, _plural(name)) for name in names)


def _said(scene: Scene, rng: random.Random) -> str:
    match scene:
        case Landscape():
            return _landscape(scene, rng)
        case Still():
            return _still(scene, rng)
        case Pattern():
            words = rng.choice(PATTERN_WORDS[scene.name])
            return words.format(a=_colour(scene.first, rng), b=_colour(scene.second, rng))
        case _:
            assert_never(scene)


def _with(said: str, idle: str, rng: random.Random) -> str:
    return f"{said}, {idle}" if rng.random() < 0.7 else f"{idle}, {said}"


def _dropped_in(said: str, rng: random.Random) -> str:
    words = said.split(" ")
    unknown = "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3)))
    words.insert(rng.randint(0, len(words)), unknown)
    return " ".join(words)


def _joined(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _colour(name: str, rng: random.Random) -> str:
    return rng.choice(COLOUR_WORDS[name])


# -------------------------------------------------------------------- landscapes


def _landscape(scene: Landscape, rng: random.Random) -> str:
    things = list(scene.objects)
    rng.shuffle(things)
    first = next((thing for thing in things if thing in _ON_WATER + _ON_LAND), None)
    if first is not None and rng.random() < 0.5:
        things.remove(first)
        return _thing_first(first, things, scene, rng)
    said = _land_and_sky(scene, rng)
    if not things:
        return said
    listed = _joined([rng.choice(OBJECT_WORDS[thing]) for thing in things])
    return (
        f"{listed} over {said}"
        if _high(things) and rng.random() < 0.3
        else f"{said} with {listed}"
    )


def _high(things: list[str]) -> bool:
    return all(
        thing in {"sun", "moon", "stars", "clouds", "birds", "balloon"} for thing in things
    )


def _land_and_sky(scene: Landscape, rng: random.Random) -> str:
    land, sky = rng.choice(LAND_WORDS[scene.land]), rng.choice(SKY_WORDS[scene.sky])
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(SKY_NOUNS[scene.sky]).format(land)
    return f"{land} {sky}" if kind < 0.85 else f"{sky}, {land}"


def _thing_first(first: str, rest: list[str], scene: Landscape, rng: random.Random) -> str:
    where = "on" if first in _ON_WATER else rng.choice(("in", "by"))
    said = f"{rng.choice(OBJECT_WORDS[first])} {where} {rng.choice(LAND_WORDS[scene.land])}"
    if rest:
        said += f" with {_joined([rng.choice(OBJECT_WORDS[thing]) for thing in rest])}"
    return f"{said} {rng.choice(SKY_WORDS[scene.sky])}"


# -------------------------------------------------------------------- still life


def _still(scene: Still, rng: random.Random) -> str:
    shapes = _alike(scene, rng) if scene.alike else _each(scene, rng)
    background = _article(_colour(scene.background, rng))
    kind = rng.random()
    if kind < 0.75:
        return f"{shapes} on {background} background"
    return (
        f"{shapes} on {background[2:].strip()}"
        if kind < 0.9
        else f"on {background} background, {shapes}"
    )


def _alike(scene: Still, rng: random.Random) -> str:
    shape, number = scene.shapes[0], rng.choice(NUMBERS[len(scene.shapes)])
    name = rng.choice(SHAPE_WORDS[shape.name])
    return f"{number} {_colour(shape.colour, rng)} {_plural(name)}"


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith(("s", "x")) else f"{name}s"


def _each(scene: Still, rng: random.Random) -> str:
    several = len(scene.shapes) > 1
    told = [_one(shape, rng) for shape in scene.shapes]
    if several and scene.shapes[0].place == "left" and rng.random() < 0.3:
        return f"{_one(scene.shapes[0], rng)} next to {_one(scene.shapes[1], rng)}"
    if several and scene.shapes[0].place == "top" and rng.random() < 0.5:
        return f"{_one(scene.shapes[0], rng)} above {_one(scene.shapes[1], rng)}"
    return _joined(told)


def _one(shape: Shape, rng: random.Random) -> str:
    words = (
        rng.choice(SIZE_WORDS[shape.size]),
        _colour(shape.colour, rng),
        rng.choice(SHAPE_WORDS[shape.name]),
    )
    said = _article(" ".join(word for word in words if word))
    if shape.place == "center" and rng.random() < 0.6:
        return said
    return f"{said} {rng.choice(PLACE_WORDS[shape.place])}"


_SINGULARS = frozenset(name for names in SHAPE_WORDS.values() for name in names)
_SHAPES = re.compile(
    rf"\b(?<!polka )({'|'.join([*_SINGULARS, *map(_plural, _SINGULARS)])})\b", re.IGNORECASE
)
