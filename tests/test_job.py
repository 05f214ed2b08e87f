"""The job's tables: states, moves, outcomes and what each outcome does to reply and delivery."""

from itertools import product
from typing import get_args

import pytest

from consumer.job import (
    FINAL_STATE,
    SETTLEMENT,
    TRANSITIONS,
    Abandoned,
    AnsweredBefore,
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    IllegalTransitionError,
    Outcome,
    Poison,
    Refused,
    Settlement,
    State,
    Succeeded,
    Unanswerable,
    move,
)

OUTCOMES = get_args(Outcome)


@pytest.mark.parametrize(
    ("outcome", "park", "reply", "settle"),
    [
        (Succeeded, False, "result", "ack"),
        (Refused, False, "error", "ack"),
        (Expired, False, "error", "ack"),
        (Cancelled, False, "error", "ack"),
        (Abandoned, False, "none", "ack"),
        (Failed, False, "error", "ack"),
        (Poison, True, "error", "ack"),
        (Unanswerable, True, "none", "ack"),
        (GivenBack, False, "none", "requeue"),
        (AnsweredBefore, False, "none", "ack"),
    ],
)
def test_each_outcome_settles_as_the_design_says(outcome, park, reply, settle):
    """The table of DESIGN section 3, row by row."""
    assert SETTLEMENT[outcome] == Settlement(park=park, reply=reply, settle=settle)


def test_every_outcome_has_its_settlement():
    """No outcome can be reached that nobody settles."""
    assert set(SETTLEMENT) == set(OUTCOMES)


def test_nothing_is_acked_in_silence():
    """Whatever is acked was answered or parked before, or its caller is gone."""
    silent = {
        outcome
        for outcome, row in SETTLEMENT.items()
        if row.settle == "ack" and row.reply == "none" and not row.park
    }
    assert silent == {Abandoned, AnsweredBefore}


def test_what_goes_back_to_the_queue_is_not_answered():
    """A delivery that another consumer will answer must not be answered here too."""
    requeued = [row for row in SETTLEMENT.values() if row.settle == "requeue"]
    assert requeued
    assert all(row.reply == "none" and not row.park for row in requeued)


def test_every_outcome_of_a_job_leaves_it_in_a_state():
    """Only what never became a job, or had its end already, has no final state."""
    assert set(OUTCOMES) - set(FINAL_STATE) == {Unanswerable, AnsweredBefore}


@pytest.mark.parametrize("outcome", FINAL_STATE)
def test_every_outcome_can_be_written_down_for_a_running_job(outcome):
    """However a job ends, it may end so from where it is."""
    assert move(State.RUNNING, FINAL_STATE[outcome]) is FINAL_STATE[outcome]


@pytest.mark.parametrize(("state", "to"), list(product(State, State)))
def test_only_the_moves_of_the_table_are_made(state, to):
    """A legal move gives the new state; any other raises, names both and changes nothing."""
    before = {key: set(value) for key, value in TRANSITIONS.items()}
    if to in TRANSITIONS[state]:
        assert move(state, to) is to
    else:
        with pytest.raises(IllegalTransitionError, match=f"{state} -> {to}"):
            move(state, to)
    assert before == TRANSITIONS


def test_every_state_has_its_row_and_can_be_reached():
    """The table has no hole and no island."""
    assert set(TRANSITIONS) == set(State)
    reached = {State.NEW}
    while new := {to for state in reached for to in TRANSITIONS[state]} - reached:
        reached |= new
    assert reached == set(State)


def test_a_cancelled_job_stays_cancelled():
    """Nobody draws what somebody called off."""
    assert not TRANSITIONS[State.CANCELLED]
