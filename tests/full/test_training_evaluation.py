"""The evaluation: right about the painter's own pictures, and not fooled by other captions."""

import pytest

from tests.training_runs import one_thread

_SIDE = 128


@pytest.fixture(scope="module")
def judged():
    """Readers that learnt a little, held-out questions and the painter's pictures of them."""
    from training.evaluation.held import questions
    from training.evaluation.readers import learn_readers, painted

    held = questions(60)
    with one_thread():
        readers = learn_readers(shapes=240, landscapes=200)
        yield readers, held, painted([question.scene for question in held], _SIDE)


def test_the_painters_own_pictures_pass(judged):
    """Every bar's reading is right for at least 97 of 100 pictures that are right by making."""
    from training.evaluation.__main__ import rates
    from training.evaluation.judge import BARS

    readers, held, pictures = judged
    found = rates(pictures, held, readers)
    for what in BARS:
        assert found[what]["part"] >= 0.97, (what, found[what])


def test_shuffled_captions_fail(judged):
    """With the captions of other pictures every bar is missed by far."""
    from training.evaluation.__main__ import rates, shuffled
    from training.evaluation.judge import BARS

    readers, held, pictures = judged
    found = rates(pictures, shuffled(held), readers)
    for what, bar in BARS.items():
        assert found[what]["part"] < bar - 0.2, (what, found[what])


def test_the_readers_know_their_own_accuracy(judged):
    """Each states how often it is right on pictures that it did not learn from."""
    readers, _, _ = judged
    assert readers.shape.accuracy >= 0.97
    assert readers.sky.accuracy >= 0.95
