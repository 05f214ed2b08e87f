"""The ledger of the fault bench: what counts as lost, duplicated, unexpected and recovered."""

import pytest

from bench.chaos.ledger import PICTURE, Answer, Asked, Face, Ledger, Word


def asked(name="a", **changes):
    return Asked(
        **{
            "id": name,
            "job_id": f"job-{name}",
            "face": Face.WIRE,
            "deadline": 10.0,
            **changes,
        }
    )


def answer(name="a", reply="r1", **changes):
    return Answer(
        **{
            "request_id": name,
            "reply_id": reply,
            "job_id": f"job-{name}",
            "kind": PICTURE,
            "content": "hash",
            **changes,
        }
    )


@pytest.fixture
def ledger():
    """A ledger with one confirmed request."""
    books = Ledger()
    books.ask(asked())
    books.tell("a", Word.CONFIRMED)
    return books


def test_a_confirmed_request_without_an_answer_is_lost(ledger):
    """Confirmed and never answered: lost, and waited for until its deadline only."""
    assert [waiting.id for waiting in ledger.waiting(9.0)] == ["a"]
    assert ledger.waiting(11.0) == []
    assert ledger.verdict().lost == ("a",)


def test_one_right_answer_is_all_well(ledger):
    """Asked, confirmed, answered: nothing else is counted."""
    ledger.answer(answer())
    verdict = ledger.verdict()
    assert (verdict.attempted, verdict.confirmed, verdict.refused) == (1, 1, 0)
    assert (verdict.lost, verdict.unexpected, verdict.errors) == ((), (), {})
    assert (verdict.duplicated_library, verdict.duplicated_wire, verdict.recovered) == (0, 0, 0)


def test_an_unconfirmed_request_is_not_lost_and_may_be_recovered():
    """Sent without a word of the broker's: silence is no loss, an answer is a recovery."""
    books = Ledger()
    for name in ("a", "b"):
        books.ask(asked(name))
    books.answer(answer("b"))
    verdict = books.verdict()
    assert (verdict.lost, verdict.recovered, verdict.confirmed) == ((), 1, 0)


def test_a_refused_request_is_owed_nothing():
    """Told that the queue is full, nobody waits."""
    books = Ledger()
    books.ask(asked())
    books.tell("a", Word.REFUSED)
    assert (books.verdict().refused, books.verdict().lost) == (1, ())


def test_a_caller_who_is_gone_is_owed_nothing():
    """A request to which no answer can arrive is not lost without one."""
    books = Ledger()
    books.ask(asked(wants=()))
    books.tell("a", Word.CONFIRMED)
    assert (books.verdict().lost, books.waiting(0.0)) == ((), [])


def test_two_replies_are_a_duplicate_and_a_redelivered_reply_is_none(ledger):
    """Replies are told apart by their own ids: the broker may bring us one twice."""
    for reply in ("r1", "r1", "r2"):
        ledger.reply_seen("a", reply)
        ledger.answer(answer(reply=reply))
    assert ledger.verdict().duplicated_wire == 1
    assert len(ledger.answers["a"]) == 2


def test_a_call_of_the_library_that_ends_twice_is_a_duplicate_there():
    """What the library hands to its caller is counted for itself."""
    books = Ledger()
    books.ask(asked(face=Face.LIBRARY))
    for reply in ("r1", "r2"):
        books.answer(answer(reply=reply))
    assert books.verdict().duplicated_library == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"job_id": "other"}, "a: the answer is of job other, not job-a"),
        ({"fault": "seed 7, not 8"}, "a: seed 7, not 8"),
        ({"name": "b", "job_id": "x"}, "b: answered and never asked"),
    ],
)
def test_what_was_not_asked_for_is_unexpected(ledger, wrong, sentence):
    """An answer to nothing, of another job, or with another picture is named."""
    ledger.answer(answer(**wrong))
    assert ledger.verdict().unexpected == (sentence,)


def test_two_answers_that_differ_are_unexpected(ledger):
    """A picture and an error, or two pictures: one of them is wrong."""
    ledger.answer(answer())
    ledger.answer(answer(reply="r2", kind="internal", content="internal"))
    assert ledger.verdict().unexpected == (
        "a: answers that contradict each other: picture, internal",
    )


def test_an_error_where_a_picture_was_wanted_is_told_by_its_code(ledger):
    """A typed error is an answer; that it was not the one wanted is shown."""
    ledger.answer(answer(kind="internal", content="internal"))
    verdict = ledger.verdict()
    assert (verdict.lost, verdict.errors) == ((), {"internal": 1})


def test_an_error_that_was_wanted_is_no_other_answer():
    """A poisonous request has its right end in `poison`."""
    books = Ledger()
    books.ask(asked(wants=("poison",)))
    books.answer(answer(kind="poison", content="poison"))
    assert books.verdict().errors == {}


def test_replays_are_counted_from_the_answers(ledger):
    """An answer out of the store says so itself."""
    ledger.answer(answer(replayed=True))
    assert ledger.verdict().replays == 1
