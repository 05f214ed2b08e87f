"""The forecast: which place a job has in the queue, and when its turn may come. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.gpu.pace import Pace
from consumer.job import Drawing
from consumer.store import Line, Place


@dataclass(frozen=True, slots=True)
class Depth:
    """The queue of requests as the broker tells it."""

    waiting: int
    """Messages that wait, those in hand not counted."""
    consumers: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a forecast is made from, as one consumer sees it."""

    depth: Depth | None
    """None while the broker cannot be asked."""
    pace: Pace
    """What pictures took on this consumer's GPU."""
    usual: tuple[int, int, int]
    """Width, height and forwards of a picture that nobody said more of."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands in the queue; None where that is not known."""

    position: int | None = None
    wait_s: float | None = None


def standing(job_id: str, line: Line, outlook: Outlook) -> Standing:
    """Return the place of a job that waits.

    The store does not know of what was published over AMQP and is not taken yet. All of that is
    counted as being in front: the place is never told too low.
    """
    if outlook.depth is None:
        return Standing()
    before = []
    for place in line.waiting:
        if place.job_id == job_id:
            break
        before.append(place)
    unseen = max(0, outlook.depth.waiting - len(line.waiting))
    position = len(before) + unseen + 1
    return Standing(position, _wait_s(before, unseen, line, outlook))


def usual_wait_s(in_hand: int, outlook: Outlook) -> float | None:
    """Return when the turn of a request would come that were published now.

    None where nothing was measured yet, and where nobody takes requests: then it never comes.
    """
    picture = outlook.pace.picture_s(*outlook.usual)
    if outlook.depth is None or picture is None or not outlook.depth.consumers:
        return None
    return (outlook.depth.waiting + in_hand) * picture / outlook.depth.consumers


def _wait_s(before: Sequence[Place], unseen: int, line: Line, outlook: Outlook) -> float | None:
    """Return the work in front of a job in seconds, shared by all consumers; None if unmeasured.

    None, too, while nobody takes it on.
    """
    usual = outlook.pace.picture_s(*outlook.usual)
    if usual is None or outlook.depth is None or not outlook.depth.consumers:
        return None
    seconds = unseen * usual
    seconds += sum(_picture_s(place.drawing, outlook.pace, usual) for place in before)
    for place in line.running:
        whole = _picture_s(place.drawing, outlook.pace, usual)
        seconds += max(0.0, whole - (line.now - place.since) / 1000)
    return seconds / outlook.depth.consumers


def _picture_s(drawing: Drawing | None, pace: Pace, usual: float) -> float:
    if drawing is None:
        return usual
    found = pace.picture_s(drawing.width, drawing.height, drawing.forwards)
    return usual if found is None else found
