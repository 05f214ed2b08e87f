"""The judge: a picture and what was asked for → what of it is right. Pixels only."""

from collections import defaultdict

from torch import Tensor

from training.evaluation import eyes
from training.evaluation.eyes import Seen
from training.evaluation.readers import Readers
from training.scenes import Landscape, Pattern, Scene, Shape, Still
from training.words import PLACES

BARS = {
    "background": 0.95,
    "colour": 0.95,
    "shape": 0.90,
    "position": 0.90,
    "count": 0.80,
    "time of day": 0.95,
}
"""What a good model gets right of held-out captions; `land` and `pattern` are told besides."""

Verdict = dict[str, list[bool]]
"""By what was judged; nothing where the scene does not ask for it."""


def judge(picture: Tensor, scene: Scene, readers: Readers) -> Verdict:
    """Judge one picture, 3 x h x w, 0..1."""
    match scene:
        case Landscape():
            features = eyes.bands(picture)
            return {
                "time of day": [readers.sky.read(features) == scene.sky],
                "land": [readers.land.read(features) == scene.land],
            }
        case Still():
            return _still(picture, scene, readers)
        case Pattern():
            return {"pattern": [_two_colours(picture) == {scene.first, scene.second}]}


def totals(verdicts: list[Verdict]) -> dict[str, tuple[int, int]]:
    """Return, by what was judged, how often it was right and how often it was asked for."""
    right: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        for what, found in verdict.items():
            right[what] += found
    return {what: (sum(found), len(found)) for what, found in sorted(right.items())}


def _still(picture: Tensor, scene: Still, readers: Readers) -> Verdict:
    seen, asked = eyes.shapes(picture), scene.shapes
    # A crowd would cost as much as it adds: as many as were asked for are looked at, the largest.
    looked = seen[: len(asked)]
    axis = "y" if {shape.place for shape in asked} == {"top", "bottom"} else "x"
    looked = sorted(looked, key=lambda one: one.y if axis == "y" else one.x)
    pairs = list(zip(looked, asked, strict=False))
    missing = [False] * (len(asked) - len(pairs))
    return {
        "background": [eyes.named(eyes.background(picture)) == scene.background],
        "colour": [one.colour == shape.colour for one, shape in pairs] + missing,
        "shape": [readers.shape.read(_flat(one)) == shape.name for one, shape in pairs]
        + missing,
        "position": _positions(pairs, len(asked)) + missing,
        "count": [len(seen) == len(asked)],
    }


def _flat(seen: Seen) -> Tensor:
    return seen.outline.flatten()


def _positions(pairs: list[tuple[Seen, Shape]], count: int) -> list[bool]:
    """One: of all places, its own is nearest. Several: each in its half, its third, in order."""
    if count == 3:
        return [abs(one.x - (0.2, 0.5, 0.8)[i]) < 0.15 for i, (one, _) in enumerate(pairs)]
    return [_nearest(one) == shape.place for one, shape in pairs]


def _nearest(seen: Seen) -> str:
    return min(
        PLACES,
        key=lambda place: (PLACES[place][0] - seen.x) ** 2 + (PLACES[place][1] - seen.y) ** 2,
    )


def _two_colours(picture: Tensor) -> set[str]:
    """Return the two commonest colours by name."""
    looked = eyes.small(picture).flatten(1).T
    counts: dict[str, int] = defaultdict(int)
    for colour in looked[::7]:
        counts[eyes.named(colour)] += 1
    return set(sorted(counts, key=lambda name: -counts[name])[:2])
