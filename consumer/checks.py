"""The checks: the facts of the health page once more, in the shape of health+json. Pure.

draft-inadarei-api-health-check-06: `component:measurement` names a list of objects. A status stands
where there is something to judge; a measurement that cannot be read has the value null. What is too
hot or too slow is for the rules of Prometheus to say, which know yesterday.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["pass", "warn", "fail"]
Page = dict[str, Any]
Checks = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    """`component:measurement`."""
    kind: Literal["component", "datastore", "system"]
    """The draft's componentType."""
    value: Callable[[Page], Any]
    unit: str | None = None
    status: Callable[[Page], Status] | None = None
    output: Callable[[Page], str | None] = lambda _: None
    """Why the status is what it is."""


def _model(page: Page) -> Status:
    return "pass" if page["model"] and page["model"]["loaded"] else "fail"


def _gpu(page: Page) -> Status:
    gpu = page["gpu"]
    if gpu["state"] in {"ready", "busy"} and gpu["hang"] is None:
        return "warn" if gpu["reading"]["hangs_s"] is not None else "pass"
    return "warn" if gpu["state"] in {"starting", "loading"} and not gpu["hang"] else "fail"


def _gpu_output(page: Page) -> str | None:
    gpu = page["gpu"]
    if gpu["hang"] is not None:
        return str(gpu["hang"]["note"])
    hangs_s = gpu["reading"]["hangs_s"]
    return None if hangs_s is None else f"The driver has not answered for {hangs_s:g} s."


def _connected(page: Page) -> Status:
    if not page["broker"]["connected"]:
        return "fail"
    return "warn" if page["broker"]["blocked"] else "pass"


def _connected_output(page: Page) -> str | None:
    broker = page["broker"]
    if broker["connected"]:
        return "It is short of memory or disk and takes no answers for now."
    return str(broker["problem"] or "dialling")


def _waiting(page: Page) -> Status:
    queue = page["queue"]
    # Unknown, or full: the next request is refused.
    full = queue["waiting"] is None or queue["waiting"] >= queue["bound"]
    return "warn" if full else "pass"


def _waiting_output(page: Page) -> str:
    if page["queue"]["waiting"] is None:
        return "The broker does not tell."
    return "The queue is full: requests are refused."


def _store(page: Page) -> Status:
    return "pass" if page["store"]["available"] else "fail"


def _oldest_s(page: Page) -> float | None:
    oldest = page["work"]["oldest"]
    return None if oldest is None else float(oldest["age_s"])


CHECKS = (
    Check("uptime", "system", lambda page: page["uptime_s"], "s"),
    Check("model:loaded", "component", lambda page: _model(page) == "pass", None, _model),
    Check("gpu:state", "component", lambda page: page["gpu"]["state"], None, _gpu, _gpu_output),
    Check("gpu:memory", "component", lambda page: page["gpu"]["memory_used_bytes"], "bytes"),
    Check(
        "gpu:utilization", "component", lambda page: page["gpu"]["utilization_ratio"], "ratio"
    ),
    Check(
        "gpu:temperature", "component", lambda page: page["gpu"]["temperature_celsius"], "Cel"
    ),
    Check("gpu:power", "component", lambda page: page["gpu"]["power_watts"], "W"),
    Check(
        "broker:connected",
        "datastore",
        lambda page: page["broker"]["connected"],
        None,
        _connected,
        _connected_output,
    ),
    Check("broker:reconnects", "datastore", lambda page: page["broker"]["reconnects"]),
    Check(
        "queue:ready",
        "datastore",
        lambda page: page["queue"]["waiting"],
        None,
        _waiting,
        _waiting_output,
    ),
    Check("queue:bound", "datastore", lambda page: page["queue"]["bound"]),
    # Not judged: it is asked once a second, and our own consumer comes after the first time.
    Check("queue:consumers", "datastore", lambda page: page["queue"]["consumers"]),
    Check(
        "queue:estimated_wait", "datastore", lambda page: page["queue"]["estimated_wait_s"], "s"
    ),
    Check(
        "store:available",
        "datastore",
        lambda page: page["store"]["available"],
        None,
        _store,
        lambda page: page["store"]["problem"],
    ),
    Check("work:in_hand", "component", lambda page: page["work"]["in_hand"]),
    Check("work:oldest", "component", _oldest_s, "s"),
)


def checks(page: Page, time: str) -> Checks:
    """Return the checks of a page that was made at `time` (ISO 8601)."""
    return {check.name: [_shown(check, page, time)] for check in CHECKS}


def loop_check(age_s: float, problem: str | None) -> Checks:
    """Return the check that can be made while the event loop stands still only elsewhere.

    `age_s` is how long ago the loop last showed itself.
    """
    told: dict[str, Any] = {
        "componentType": "system",
        "observedValue": round(age_s, 3),
        "observedUnit": "s",
        "status": "pass" if problem is None else "fail",
    }
    return {"loop:last_seen": [told if problem is None else {**told, "output": problem}]}


def _shown(check: Check, page: Page, time: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "componentType": check.kind,
        "observedValue": check.value(page),
        "time": time,
    }
    if check.unit is not None:
        told["observedUnit"] = check.unit
    if check.status is None:
        return told
    told["status"] = check.status(page)
    # As the draft has it: only what does not pass is explained.
    output = check.output(page)
    if told["status"] != "pass" and output is not None:
        told["output"] = output
    return told
