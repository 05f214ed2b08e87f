"""The forecast: the place of a job in the queue and the time to its turn, from plain values."""

import pytest

from consumer.forecast import Depth, Outlook, Standing, standing, usual_wait_s
from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.protocol import Stage
from consumer.job import Drawing
from consumer.store import Line, Place

SIZE = (512, 512)
LIMITS = GpuLimits(
    job_timeout_s=300,
    step_floor_s=30,
    defunct_exit_s=300,
    canary_every_s=30,
    recycle_bytes=0,
)


def pace(**seconds):
    known = Pace(LIMITS)
    for stage, time in seconds.items():
        known.learn(SIZE, Stage[stage.upper()], time)
    return known


PACE = pace(text_encode=2.0, denoise=1.0, vae_decode=1.0)
"""Ten seconds for a picture of eight forwards."""


def drawing(forwards=8, side=512):
    return Drawing("x", side, side, 1, forwards, forwards + 1, 0.0, "png")


def line(*waiting, running=()):
    return Line(
        tuple(Place(job_id, drawing(), 0) for job_id in waiting),
        tuple(Place("on-gpu", one, since) for one, since in running),
        now=100_000,
    )


def outlook(waiting, consumers=1, known=PACE):
    depth = None if waiting is None else Depth(waiting, consumers)
    return Outlook(depth, known, (*SIZE, 8))


PLACES = {
    "the only one": (line("me"), outlook(1), Standing(1, 0.0)),
    "the third": (line("a", "b", "me"), outlook(3), Standing(3, 20.0)),
    "the second, with one behind": (line("a", "me", "b"), outlook(3), Standing(2, 10.0)),
    "two unseen in front": (line("me"), outlook(3), Standing(3, 20.0)),
    "the broker has not counted it yet": (line("a", "me"), outlook(0), Standing(2, 10.0)),
    "shared by two": (line("a", "b", "me"), outlook(3, consumers=2), Standing(3, 10.0)),
    "nobody consumes": (line("a", "me"), outlook(2, consumers=0), Standing(2, None)),
    "not in the line": (line("a"), outlook(1), Standing(2, 10.0)),
    "behind one half drawn": (
        line("me", running=[(drawing(), 96_000)]),
        outlook(1),
        Standing(1, 6.0),
    ),
    "behind one that takes too long": (
        line("me", running=[(drawing(), 0)]),
        outlook(1),
        Standing(1, 0.0),
    ),
    "behind one of half the steps": (
        line("me", running=[(drawing(4), 100_000)]),
        outlook(1),
        Standing(1, 6.0),
    ),
    "behind one that is not told": (
        line("me", running=[(None, 100_000)]),
        outlook(1),
        Standing(1, 10.0),
    ),
    "nothing measured yet": (line("a", "me"), outlook(2, known=pace()), Standing(2, None)),
    "half of it measured": (
        line("a", "me"),
        outlook(2, known=pace(denoise=1.0)),
        Standing(2, None),
    ),
    "no broker": (line("a", "me"), outlook(None), Standing()),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_place_and_a_wait(case):
    """The work in front, by what it is, shared by all who consume; null where it is not known."""
    there, seen, expected = PLACES[case]
    assert standing("me", there, seen) == expected


@pytest.mark.parametrize(
    ("seen", "in_hand", "expected"),
    [
        (outlook(0), 0, 0.0),
        (outlook(2), 1, 30.0),
        (outlook(2, consumers=3), 1, 10.0),
        (outlook(2, consumers=0), 0, None),
        (outlook(None), 1, None),
        (outlook(2, known=pace()), 1, None),
    ],
)
def test_the_wait_of_one_more(seen, in_hand, expected):
    """What a request would wait that came now; null where nobody can tell."""
    assert usual_wait_s(in_hand, seen) == expected
