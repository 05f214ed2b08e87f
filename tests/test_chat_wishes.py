"""The detector: what it takes for a wish, and what it reads from it."""

import pytest

from examples.chat.wishes import Wish, wish_in
from examples.chat.wishes.measure import figures, labelled

LEAST = 0.97


def test_there_are_enough_messages_and_none_twice():
    """At least 240 in three languages, a third of them held out by the hash of their text."""
    messages = labelled()
    held_out = [message for message in messages if message.held_out]
    assert len(messages) == len({message.text for message in messages}) >= 240
    assert {message.language for message in messages} == {"en", "de", "zh"}
    assert 0.3 < len(held_out) / len(messages) < 0.37


def test_the_held_out_third_is_read_right():
    """Precision, recall, and the sizes, seeds and counts of what is found."""
    measured = figures(message for message in labelled() if message.held_out)
    assert min(measured.precision, measured.recall, measured.details) >= LEAST


def test_the_other_messages_are_read_right():
    """A rule that is mended for one message is not to break others."""
    measured = figures(message for message in labelled() if not message.held_out)
    assert (measured.precision, measured.recall, measured.details) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("message", "wish"),
    [
        ("create an image of a lighthouse at dawn", Wish("a lighthouse at dawn")),
        ("Please draw me a fox, in landscape, seed 7. Thanks!", Wish("a fox", 1280, 720, 7)),
        ("an oil painting of a pear, please", Wish("oil painting of a pear")),
        ("make 3 images of a door (512x512)", Wish("a door", 512, 512, None, 3)),
        ("Draw a castle. It has three towers.", Wish("a castle. It has three towers.")),
        ("Imagine a tree full of books and draw it", Wish("a tree full of books")),
        ("mal mir bitte eine Katze im Hochformat", Wish("eine Katze", 720, 1280)),
        ("Kannst du mir eine Katze malen?", Wish("eine Katze")),
        ("画一只猫，竖版，种子7", Wish("一只猫", 720, 1280, 7)),  # noqa: RUF001 - as it is written
        ("請幫我畫一隻貓", Wish("一隻貓")),
        ("生成两张海边日落的图片", Wish("海边日落", count=2)),
        ("draw a portrait of a landscape painter", Wish("portrait of a landscape painter")),
        ("can you draw conclusions from this?", None),
        ("I took a picture of the sea", None),
        ("Wie male ich ein Pferd?", None),
        ("我昨天画了一只猫", None),
        ("", None),
    ],
)
def test_a_wish_is_read_from_words(message, wish):
    """What to draw, without the words that ask for it; size, seed and count as numbers."""
    assert wish_in(message) == wish


@pytest.mark.parametrize(
    "piece",
    ["please ", "a ", "so, ", ": ", "with ", "landscape ", "draw ", "ein ", "能", "你能", "吗", "的图", "1x1"],
)  # fmt: skip
@pytest.mark.parametrize("beginning", ["", "draw ", "create a ", "kannst du ", "生成"])
def test_a_message_that_goes_on_and_on_is_read_all_the_same(beginning, piece):
    """A thousand signs of what the rules repeat: an exponential one would not come back."""
    wish_in((beginning + piece * 1000)[:1000])
