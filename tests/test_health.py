"""Health as pure values: what the parts say of themselves gives one verdict."""

from dataclasses import replace
from itertools import product

import pytest

from consumer.forecast import Outlook
from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.process import GpuState
from consumer.health import (
    LOOP_STALL_S,
    QUIET_S,
    WATCH_GRACE_S,
    Health,
    Phase,
    Snapshot,
    Vitals,
    WatchDue,
    alive,
    derive,
    judged,
    standstill,
)

NO_OUTLOOK = Outlook(None, Pace(GpuLimits()), (1024, 1024, 8))
WELL = Vitals(
    phase=Phase.RUNNING,
    gpu=GpuState.READY,
    loaded=True,
    broker_connected=True,
    broker_problem=None,
    broker_blocked=False,
    parking_problem=None,
    taking=True,
    store_problem=None,
    gpu_note="builtin is loaded on CPU",
)
LOADING = {"loaded": False, "gpu": GpuState.LOADING}
DEAD = {"loaded": False, "gpu": GpuState.DEAD}


@pytest.mark.parametrize(
    ("change", "status", "state", "ready"),
    [
        ({}, "pass", "ready", True),
        ({"gpu": GpuState.BUSY}, "pass", "ready", True),
        ({"phase": Phase.STARTING, "loaded": False}, "warn", "loading", False),
        ({"loaded": False, "gpu": GpuState.DEAD}, "fail", "loading", False),
        ({"loaded": False, "gpu": GpuState.LOADING}, "fail", "loading", False),
        ({"gpu": GpuState.DEFUNCT, "loaded": False}, "fail", "failed", False),
        ({"broker_connected": False}, "fail", "connecting", False),
        ({"broker_connected": False, "loaded": False}, "fail", "loading", False),
        ({"store_problem": "disk full"}, "fail", "no_store", False),
        ({"store_problem": "disk full", "broker_connected": False}, "fail", "no_store", False),
        ({"broker_blocked": True}, "warn", "blocked", True),
        ({"parking_problem": "No queue"}, "warn", "unparked", True),
        ({"taking": False}, "warn", "paused", False),
        ({"phase": Phase.DRAINING}, "warn", "draining", False),
        ({"phase": Phase.DRAINING, "gpu": GpuState.DEFUNCT}, "warn", "draining", False),
    ],
    ids=str,
)
def test_the_verdict_on_some_vitals(change, status, state, ready):
    """Each way to be unwell has its status and its state, the gravest first."""
    health = derive(replace(WELL, **change))
    assert (health.status, health.state, health.ready) == (status, state, ready)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"broker_connected": False, "broker_problem": "refused"}, "refused"),
        ({"broker_connected": False}, "dialling"),
        ({**LOADING, "gpu_note": "fetching 20 GB"}, "Loading the model: fetching 20 GB."),
        ({**LOADING, "gpu_note": ""}, "Loading the model: the GPU process starts."),
        (
            {**LOADING, "gpu_note": "warming 512x512", "gpu_quiet_s": QUIET_S + 1},
            "warming 512x512, and nothing more for 61 s.",
        ),
        (
            {**LOADING, "gpu_note": "died", "gpu_trouble": "died"},
            "process starts. Before: died.",
        ),
        (
            {**LOADING, "gpu_note": "importing", "gpu_trouble": "died"},
            "importing. Before: died.",
        ),
        ({**DEAD, "gpu_trouble": "died"}, "The GPU process is replaced: died."),
        (
            {**DEAD, "gpu_trouble": "died", "hang": "it hangs in job 7"},
            "replaced: it hangs in job 7.",
        ),
        ({"gpu": GpuState.DEFUNCT, "gpu_trouble": "5 deaths"}, "again and again: 5 deaths."),
        ({"phase": Phase.STOPPED}, "The service stops."),
        ({"store_problem": "the disk is full"}, "the disk is full"),
        ({"broker_blocked": True}, "short of memory"),
        (
            {"loaded": False, "gpu": GpuState.BUSY, "hang": "it hangs in job 7"},
            "The GPU process is replaced: it hangs in job 7.",
        ),
    ],
    ids=str,
)
def test_the_note_says_why(change, words):
    """Whoever reads the page learns what is waited for, in a sentence."""
    note = derive(replace(WELL, **change)).note
    assert words in note
    assert note.endswith(".")


@pytest.mark.parametrize(
    ("phase", "gpu", "loaded", "connected", "store"),
    list(product(Phase, GpuState, (True, False), (True, False), (None, "gone"))),
)
def test_it_is_ready_only_if_everything_is(phase, gpu, loaded, connected, store):
    """Readiness is never claimed without model, broker and store, in a stop, or with a broken GPU."""
    vitals = replace(
        WELL,
        phase=phase,
        gpu=gpu,
        loaded=loaded,
        broker_connected=connected,
        store_problem=store,
    )
    health = derive(vitals)
    assert health.ready == (health.status == "pass")
    if health.ready:
        assert loaded
        assert connected
        assert store is None
        assert phase not in {Phase.DRAINING, Phase.STOPPED}
        assert gpu is not GpuState.DEFUNCT


@pytest.mark.parametrize(
    ("age_s", "verdict"), [(0, True), (LOOP_STALL_S - 1, True), (LOOP_STALL_S, False)]
)
def test_it_is_alive_while_the_event_loop_shows_itself(age_s, verdict):
    """Liveness asks for a recent beat of the loop and for nothing else: not for the broker."""
    unwell = Health("fail", "connecting", "No broker: refused.", ready=False)
    assert (
        alive(Snapshot(unwell, {}, Phase.RUNNING, NO_OUTLOOK, beat=100.0), now=100.0 + age_s)
        is verdict
    )


UNWELL = Health("fail", "connecting", "No broker: refused.", ready=False)
DUE = WatchDue(200.0, "in job 7, stage denoise")


@pytest.mark.parametrize(
    ("late_s", "verdict"),
    [(-30, True), (0, True), (WATCH_GRACE_S - 1, True), (WATCH_GRACE_S, False)],
)
def test_it_is_not_alive_if_the_watch_over_the_gpu_fails(late_s, verdict):
    """A hang that is not called in time means that nobody watches: only a new start helps."""
    now = DUE.at + late_s
    snapshot = Snapshot(UNWELL, {}, Phase.RUNNING, NO_OUTLOOK, beat=now, watch=DUE)
    assert alive(snapshot, now) is verdict
    problem = standstill(snapshot, now)
    assert problem is None or "5 s late, in job 7, stage denoise." in problem


@pytest.mark.parametrize("stood_s", [WATCH_GRACE_S, LOOP_STALL_S - 0.1])
def test_a_watch_is_not_blamed_for_a_loop_that_stands_still(stood_s):
    """Its alarm cannot ring then; how long the loop may stand is one limit, with a hang due or not."""
    snapshot = Snapshot(UNWELL, {}, Phase.RUNNING, NO_OUTLOOK, beat=DUE.at, watch=DUE)
    assert alive(snapshot, DUE.at + stood_s)
    assert "event loop has stood still" in standstill(snapshot, DUE.at + LOOP_STALL_S)


def test_a_verdict_is_true_when_it_is_read():
    """What was ready when the page was made is not ready any more once nothing moves."""
    well = derive(WELL)
    snapshot = Snapshot(well, {}, Phase.RUNNING, NO_OUTLOOK, beat=0.0)
    assert judged(snapshot, LOOP_STALL_S - 1) is well
    late = judged(snapshot, LOOP_STALL_S)
    assert (late.status, late.state, late.ready) == ("fail", "failed", False)
