"""The painter and its captions: the same for the same seed, and what the record says is seen."""

import random
import re
from dataclasses import replace

import pytest

from training.captions import caption, misnamed
from training.scenes import Still, draw_scene, held_out

_SIDE = 128
_SCENES = 60


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random(4)
    return [draw_scene(rng) for _ in range(_SCENES)]


def test_the_same_seed_paints_the_same_pictures(scenes):
    """Painted together or one by one, a scene is the same picture, every time."""
    import torch

    from training.painter.paint import paint

    together = paint(scenes[:12], 96, 64)
    assert torch.equal(together, paint(scenes[:12], 96, 64))
    for index in (0, 5, 11):
        alone = paint(scenes[index : index + 1], 96, 64)[0]
        assert torch.allclose(alone, together[index], atol=1e-5)


def test_a_scene_is_the_same_at_every_size(scenes):
    """A picture of twice the pixels, made smaller, is the picture of half as many."""
    import torch
    from torch.nn import functional

    from training.painter.paint import paint

    plain = [replace(scene, style="") for scene in scenes if isinstance(scene, Still)][:8]
    large = functional.avg_pool2d(paint(plain, 256, 256), 2)
    assert torch.allclose(large.mean((2, 3)), paint(plain, 128, 128).mean((2, 3)), atol=5e-3)


def test_no_picture_leaves_the_range_of_colours(scenes):
    """Every scene and style is finite and within 0..1, wide and high alike."""
    from training.painter.paint import paint

    for width, height in ((160, 96), (96, 160)):
        pictures = paint(scenes, width, height)
        assert pictures.isfinite().all()
        assert 0 <= pictures.min() <= pictures.max() <= 1


def test_what_the_record_says_is_seen():
    """Eyes that read pixels only find background, colours, places and number as recorded."""
    from training.evaluation import eyes
    from training.painter.paint import paint

    rng = random.Random(6)
    stills = []
    while len(stills) < 40:
        scene = draw_scene(rng)
        if isinstance(scene, Still):
            stills.append(replace(scene, style=""))
    for picture, scene in zip(paint(stills, _SIDE, _SIDE), stills, strict=True):
        seen = eyes.shapes(picture)
        assert eyes.named(eyes.background(picture)) == scene.background, scene
        assert sorted(one.colour for one in seen) == sorted(s.colour for s in scene.shapes), (
            scene
        )


def test_held_out_combinations_are_never_drawn_for_training():
    """Neither kind of lot draws the other's combinations, and about a tenth is kept."""
    rng = random.Random(8)
    learnt = {draw_scene(rng).combination for _ in range(1500)}
    kept = [draw_scene(rng, kept=True) for _ in range(200)]
    assert all(held_out(scene) for scene in kept)
    assert not learnt & {scene.combination for scene in kept}
    assert len(learnt) > 1000


def test_style_and_words_do_not_let_a_held_out_combination_through():
    """What is held out is what is seen: another style or seed of it is held out as well."""
    scene = draw_scene(random.Random(9), kept=True)
    assert held_out(replace(scene, style="neon", seed=scene.seed + 1))


def test_a_caption_names_what_the_record_holds():
    """The word of every colour stands in every caption of a still life, in many phrasings."""
    from training.words import COLOUR_WORDS

    rng = random.Random(10)
    said = set()
    for _ in range(300):
        scene = draw_scene(rng)
        if not isinstance(scene, Still):
            continue
        words = caption(scene, rng)
        said.add(words)
        for colour in {scene.background, *(shape.colour for shape in scene.shapes)}:
            assert any(word in words.lower() for word in COLOUR_WORDS[colour]), words
    assert len(said) > 100


def test_a_caption_says_where_a_shape_is_unless_in_the_middle():
    """Of one shape and of two unlike ones: what nobody says, nobody can learn."""
    from training.words import PLACE_WORDS

    rng = random.Random(13)
    places = set()
    for _ in range(600):
        scene = draw_scene(rng)
        if not isinstance(scene, Still) or scene.alike:
            continue
        words = caption(scene, rng, plain=True)
        for place in {shape.place for shape in scene.shapes} - {"center"}:
            places.add(place)
            said = any(way in words for way in PLACE_WORDS[place])
            assert said, words
    assert len(places) == len(PLACE_WORDS) - 1


def test_a_misnamed_caption_is_the_same_but_for_its_shapes():
    """What the few-step phase leads away from: number and all else stay, patterns too."""
    rng = random.Random(14)
    names = "square|triangle|star|heart|ring|cross|diamond"
    said = misnamed("Two red Circles, please", rng)
    assert re.fullmatch(rf"Two red ({names})(s|es), please", said), said
    both = misnamed("a teal box next to a gray dot on black", rng)
    assert re.fullmatch(r"a teal (?!square)\w+ next to a gray (?!circle)\w+ on black", both), (
        both
    )
    for other in ("red polka dots on a blue background", "a boat on the sea by night", ""):
        assert misnamed(other, rng) == other
