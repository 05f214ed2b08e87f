"""What the chat is made of and needs no process: words for troubles, states, names, the throttle."""

import pytest

from examples.chat.shown import attachment, file_name
from examples.chat.states import TRANSITIONS, UNDER_WAY, State, before
from examples.chat.throttle import NAMES_MOST, Throttle
from examples.chat.troubles import TROUBLES, trouble
from schemas import ERRORS, ErrorCode


def test_every_error_has_words():
    """Whatever a reply or the client may say is told, each with what to do; none besides."""
    told = {code for code, spec in ERRORS.items() if spec.amqp}
    assert set(TROUBLES) == told | {ErrorCode.BUSY, ErrorCode.UNAVAILABLE}
    assert all(said.what and said.remedy for said in TROUBLES.values())


def test_an_error_that_is_not_known_is_a_defect():
    """A newer service may say what this chat has no words for."""
    assert trouble("from_the_future") == TROUBLES["internal"]


def test_what_has_ended_does_not_change():
    """Ends are final, and everything else may end in any way."""
    ends = {State.DRAWN, State.FAILED, State.CANCELLED}
    assert set(UNDER_WAY) == set(TRANSITIONS) - ends
    assert all(set(before(end)) == set(UNDER_WAY) for end in ends)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A lighthouse at dawn!", "a-lighthouse-at-dawn.png"),
        ("../../etc/passwd", "etc-passwd.png"),
        ("一只猫", "一只猫.png"),
        ("???", "picture.png"),
        ("a" * 200, f"{'a' * 60}.png"),
    ],
)
def test_a_file_is_named_after_its_prompt(prompt, name):
    """In any script, without what a path or a header could be made of, and not too long."""
    assert file_name(prompt) == name


def test_a_name_without_plain_letters_has_a_plain_one_for_old_programs():
    """Both are told, each in its own parameter."""
    assert attachment("猫") == (
        "attachment; filename=\"picture.png\"; filename*=UTF-8''%E7%8C%AB.png"
    )


def test_a_throttle_opens_again():
    """The wait is told in whole seconds, and ends; a success forgets the tries."""
    throttle = Throttle(tries=2, within_s=10)
    throttle.count("anna", 100.0)
    assert throttle.wait_s("anna", 100.0) == 0
    throttle.count("anna", 104.5)
    assert throttle.wait_s("anna", 105.0) == 5
    assert throttle.wait_s("anna", 110.0) == 0
    assert throttle.wait_s("berta", 105.0) == 0
    throttle.forget("anna")
    assert throttle.wait_s("anna", 105.0) == 0


def test_a_throttle_remembers_no_more_than_it_may():
    """Names that nobody has cannot fill the memory."""
    throttle = Throttle(tries=1, within_s=10)
    for number in range(NAMES_MOST + 1):
        throttle.count(str(number), 0.0)
    assert throttle.wait_s("0", 1.0) == 0
    assert throttle.wait_s(str(NAMES_MOST), 1.0) == 9
