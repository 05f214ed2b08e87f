"""The held-out questions: captions of combinations that training never sees, with their records."""

import random
from dataclasses import dataclass, replace

from training.captions import caption
from training.learning.chance import number
from training.scenes import Pattern, Scene, draw_scene


@dataclass(frozen=True)
class Question:
    """What is asked for, in words and as a record."""

    scene: Scene
    caption: str


def questions(count: int, seed: int = 11) -> list[Question]:
    """Return questions without a style and without idle words; patterns are a few of them."""
    rng = random.Random(number(seed, "held-out"))
    asked: list[Question] = []
    while len(asked) < count:
        scene = replace(draw_scene(rng, kept=True), style="")
        if isinstance(scene, Pattern) and rng.random() < 0.5:
            continue
        asked.append(Question(scene, caption(scene, rng, plain=True)))
    return asked
