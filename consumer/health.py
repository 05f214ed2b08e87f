"""The health: what the parts say of themselves gives what the service says of itself. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from consumer.forecast import Outlook
from consumer.gpu.process import GpuState

QUIET_S = 60.0
"""A load is said to tell nothing after so long a silence. Chosen: longer than an import of torch
from a cold disk; a kernel search is quiet for longer, and only shown, never judged."""
LOOP_STALL_S = 15.0
"""The event loop is dead if it has not shown itself for so long."""
WATCH_GRACE_S = 5.0
"""The watch over the GPU process has failed if a verdict of its is late by so much: the alarm it is
set on rings in milliseconds on a loop that runs."""


class Phase(StrEnum):
    """Where the service stands in its own life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the parts say at one moment."""

    phase: Phase
    gpu: GpuState
    loaded: bool
    """A model was loaded at least once, and the child of the moment has it."""
    broker_connected: bool
    broker_problem: str | None
    broker_blocked: bool
    """The broker is short of memory or disk, and takes no publish."""
    parking_problem: str | None
    """Why a request that is to be parked stays in our hands, as a sentence."""
    taking: bool
    """The broker hands us requests."""
    store_problem: str | None
    """Why the store cannot be written; None if it can."""
    gpu_note: str
    """What the GPU process said last."""
    gpu_quiet_s: float = 0.0
    """How long ago that was, in seconds."""
    gpu_trouble: str | None = None
    """What went wrong with it since a picture last came out."""
    hang: str | None = None
    """Which job the GPU process hung in, and since when; None once another one is ready."""


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict."""

    status: Literal["pass", "warn", "fail"]
    state: str
    """loading, connecting, ready, no_store, paused, blocked, unparked, draining, stopping or failed."""
    note: str
    """A sentence."""
    ready: bool


def derive(vitals: Vitals) -> Health:
    """Return the verdict on these vitals."""
    if vitals.phase is Phase.STOPPED:
        return Health("fail", "stopping", "The service stops.", ready=False)
    if vitals.phase is Phase.DRAINING:
        return Health("warn", "draining", "Finishing the work in hand.", ready=False)
    return _of_gpu(vitals) or _of_links(vitals)


def _of_gpu(vitals: Vitals) -> Health | None:
    """Return what is wrong with the GPU process."""
    if vitals.gpu is GpuState.DEFUNCT:
        # Not what its process says meanwhile: that it is loaded, for one.
        why = vitals.gpu_trouble or vitals.gpu_note
        note = (
            f"The GPU fails again and again: {why}. "
            "Nothing but test pictures is drawn until one comes out."
        )
        return Health("fail", "failed", note, ready=False)
    if not vitals.loaded:
        status: Literal["warn", "fail"] = "warn" if vitals.phase is Phase.STARTING else "fail"
        return Health(status, "loading", _until_loaded(vitals), ready=False)
    return None


def _until_loaded(vitals: Vitals) -> str:
    """Return what is waited for while no process has the model, and what went wrong before."""
    wrong = vitals.hang or vitals.gpu_trouble
    if vitals.gpu not in {GpuState.STARTING, GpuState.LOADING}:
        return f"The GPU process is replaced: {wrong or vitals.gpu_note}."
    said = vitals.gpu_note
    if not said or (vitals.gpu_trouble or "").endswith(said):
        said = "the GPU process starts"  # the last words were those of the one before
    quiet = vitals.gpu_quiet_s
    silence = f", and nothing more for {quiet:.0f} s" if quiet >= QUIET_S else ""
    before = f" Before: {wrong}." if wrong else ""
    return f"Loading the model: {said}{silence}.{before}"


def _of_links(vitals: Vitals) -> Health:
    """Return how it stands with the broker and the store."""
    if vitals.store_problem is not None:
        note = f"The store cannot be written, so nothing is taken: {vitals.store_problem}."
        return Health("fail", "no_store", note, ready=False)
    if not vitals.broker_connected:
        problem = vitals.broker_problem or "dialling"
        return Health("fail", "connecting", f"No broker: {problem}.", ready=False)
    if not vitals.taking:
        return Health("warn", "paused", "No requests are taken for the moment.", ready=False)
    if vitals.parking_problem is not None:
        note = f"{vitals.parking_problem}. The request keeps its place in our hands meanwhile."
        return Health("warn", "unparked", note, ready=True)
    if vitals.broker_blocked:
        note = "The broker is short of memory or disk: answers wait until it takes them."
        return Health("warn", "blocked", note, ready=True)
    return Health("pass", "ready", "Taking requests.", ready=True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the pages are served from; made by the event loop, read by the HTTP thread."""

    health: Health
    page: dict[str, Any]
    phase: Phase
    outlook: Outlook
    """For the forecasts of jobs."""
    beat: float
    """Monotonic seconds at which the event loop made it."""
    started: bool = False
    """A model was loaded, proved and warm once; what is missing since, a new start would not bring."""
    watch: "WatchDue | None" = None
    """What the watch over the GPU process owes; None while there is nothing to watch."""


@dataclass(frozen=True, slots=True)
class WatchDue:
    """A verdict that the watch over the GPU process will have to give."""

    at: float
    """Monotonic seconds by which the process was heard of, or was called hung."""
    what: str
    """What it does meanwhile, as the middle of a sentence."""


def standstill(snapshot: Snapshot, now: float) -> str | None:
    """Return why only a new start can help, as a sentence; None while all moves.

    The watch is judged by the last beat, not by now: it cannot ring on a loop that stands still,
    and how long that may be is judged by itself.

    The broker plays no part in it, nor a GPU process that hangs: one that watches over it sees to
    that. This is about those who watch.
    """
    if now - snapshot.beat >= LOOP_STALL_S:
        return f"The event loop has stood still for {now - snapshot.beat:.0f} s."
    watch = snapshot.watch
    if watch is not None and snapshot.beat - watch.at >= WATCH_GRACE_S:
        late_s = snapshot.beat - watch.at
        return f"The watch over the GPU process is {late_s:.0f} s late, {watch.what}."
    return None


def judged(snapshot: Snapshot, now: float) -> Health:
    """Return the verdict as it is now: the one that was made, or that nothing moves any more."""
    problem = standstill(snapshot, now)
    if problem is None:
        return snapshot.health
    return Health("fail", "failed", problem, ready=False)


def alive(snapshot: Snapshot, now: float) -> bool:
    """Whether the service can go on without a new start."""
    return standstill(snapshot, now) is None
