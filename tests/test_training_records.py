"""The lesson beside the pictures: a record tells what is seen, and the text side learns it."""

import random
from dataclasses import replace

import pytest

from training.scenes import Landscape, Still, draw_scene


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random(12)
    return [draw_scene(rng) for _ in range(300)]


def test_a_record_tells_apart_what_is_seen_apart(scenes):
    """Other combinations or styles have other records; another seed of one has the same."""
    from training.learning.records import record

    assert record(scenes[0]) == record(replace(scenes[0], seed=scenes[0].seed + 1))
    seen = {(scene.combination, scene.style) for scene in scenes}
    assert len({tuple(record(scene)) for scene in scenes}) == len(seen)


def test_a_record_says_whether_it_is_a_still_life(scenes):
    import torch

    from training.learning.records import is_still, record

    found = is_still(torch.tensor([record(scene) for scene in scenes])).tolist()
    assert found == [isinstance(scene, Still) for scene in scenes]
    assert any(isinstance(scene, Landscape) for scene in scenes)


def test_the_text_side_learns_to_tell_the_record(tmp_path):
    """Forty steps of the smallest model halve how wrong it is, and it goes on where it was."""
    from tests.training_runs import one_thread
    from training.learning.run import PHASES, Run
    from training.learning.settings import PROOF
    from training.learning.words_phase import WordsLearner

    one = Run(PROOF, tmp_path, 480.0, 1)
    with one_thread():
        PHASES["paint"](one)
        learner = WordsLearner(PROOF, one.tokenizer())
        losses = [learner.step(number, 0.0)["loss"] for number in range(40)]
        assert losses[-1] < losses[0] / 2
        other = WordsLearner(PROOF, one.tokenizer())
        other.restore(learner.state())
        assert other.step(40, 0.5) == learner.step(40, 0.5)
