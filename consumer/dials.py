"""The dials: the parts of the health page that need arithmetic or words, from plain values. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumer.forecast import Outlook
from consumer.gpu.chart import Chart, Hang
from consumer.gpu.devices import Seen
from consumer.gpu.picture import Picture
from consumer.gpu.protocol import Ready
from consumer.gpu.reading import Reading

Facts = dict[str, Any]

FOLDERS = re.compile(r"(?<![\w:/.…])(?:/[^\s/:'\"]+)+/(?=[^\s/:'\"])")
"""Of an absolute path all but its last part; paths of URLs are left alone."""
USER = re.compile(r"(?<=://)[^\s/@]*@")
"""Of a URL: user and password."""

TORCH_MEMORY = ("allocated", "reserved", "peak")


@dataclass(frozen=True, slots=True)
class Clock:
    """One moment by two clocks."""

    mono: float
    """Seconds of the monotonic clock, which is the event loop's too."""
    wall: datetime

    def age_s(self, mono: float) -> float:
        """Return how long ago that was, in seconds."""
        return round(self.mono - mono, 3)

    def text(self, mono: float) -> str:
        """Return the moment by the wall clock, in ISO 8601."""
        moment = self.wall - timedelta(seconds=self.mono - mono)
        return moment.isoformat(timespec="milliseconds")


def public(text: str | None) -> str | None:
    """Return a sentence of the log as everybody may read it, on one line.

    The page asks for no token: it tells neither where things lie on this machine nor who logs in.
    """
    if text is None:
        return None
    return USER.sub("", FOLDERS.sub("…/", " ".join(text.split())))


def model_facts(ready: Ready | None, *, loaded: bool, forwards: int) -> Facts | None:
    """Return what is known of the model; None before it was first loaded."""
    if ready is None:
        return None
    return {
        "id": ready.model,
        "revision": ready.revision,
        "pipeline": ready.pipeline,
        "dtype": ready.dtype,
        "loaded": loaded,
        "load_s": ready.load_seconds,
        "forwards": forwards,
        "warmed": ready.warmed,
        "versions": ready.versions,
    }


def gpu_facts(ready: Ready | None, seen: Seen, chart: Chart, clock: Clock) -> Facts:
    """Return what is known of the device; each fact that cannot be read is None."""
    reading = seen.reading or Reading("none")
    torch = {f"torch_{name}_bytes": chart.memory.get(name) for name in TORCH_MEMORY}
    busy = reading.busy_percent
    return {
        "device": ready.device if ready else None,
        "name": (ready.device_name if ready else None) or reading.name,
        "backend": ready.backend if ready else None,
        "architecture": (ready.architecture if ready else "") or None,
        "pci": (ready.pci if ready else "") or None,
        "unique_id": reading.unique_id,
        "driver": reading.driver,
        "memory_used_bytes": reading.used,
        # Torch knows the whole too, where the driver cannot be asked.
        "memory_total_bytes": reading.total or chart.memory.get("total"),
        "shared_used_bytes": reading.shared_used,
        "shared_total_bytes": reading.shared_total,
        "utilization_ratio": None if busy is None else busy / 100,
        "temperature_celsius": reading.temperature,
        "temperatures": reading.temperatures,
        "power_watts": reading.power_watts,
        **torch,
        "reading": {
            "source": seen.reading.source if seen.reading else None,
            "age_s": None if seen.age_s is None else round(seen.age_s, 1),
            "hangs_s": None if seen.hangs_s is None else round(seen.hangs_s, 1),
        },
        "hang": hang_facts(chart.hang, clock),
        "last_hang": hang_facts(chart.last_hang, clock),
    }


def hang_facts(hang: Hang | None, clock: Clock) -> Facts | None:
    """Return which job the GPU process hung in, and since when it was silent."""
    if hang is None:
        return None
    return {
        "job_id": hang.job_id,
        "stage": hang.stage,
        "since": clock.text(hang.since),
        "found": clock.text(hang.found),
        "note": hang.note,
    }


def hang_sentence(hang: Hang | None, clock: Clock) -> str | None:
    """Return the hang as a part of a sentence."""
    return None if hang is None else f"{hang.sentence}, silent since {clock.text(hang.since)}"


def picture_facts(picture: Picture | None, clock: Clock) -> Facts | None:
    """Return where a picture stands; `silent_s` is since the GPU process last told of it."""
    if picture is None:
        return None
    begun = bool(picture.started)
    return {
        "job_id": picture.command.id,
        "since": clock.text(picture.asked),
        "age_s": clock.age_s(picture.asked),
        "stage": picture.stage if begun else "waiting",
        "step": picture.step if begun else None,
        "steps": picture.command.forwards,
        "silent_s": clock.age_s(picture.stage_since) if begun else None,
    }


def delivery_facts(
    job_id: str | None, taken: float, picture: Picture | None, clock: Clock
) -> Facts:
    """Return how old a delivery in hand is, and where its picture stands.

    All that is of the picture is None before it is asked for, and once it is drawn: its job is
    looked up, encoded, written down or answered then.
    """
    stands = picture_facts(picture, clock) or dict.fromkeys(
        ("stage", "step", "steps", "silent_s")
    )
    told = {"job_id": job_id, "since": clock.text(taken), "age_s": clock.age_s(taken)}
    return {**stands, **told}


def service_s(outlook: Outlook) -> dict[str, float]:
    """Return what a picture of each size takes that was drawn here, with the usual forwards."""
    pace, forwards = outlook.pace, outlook.usual[2]
    times = {size: pace.picture_s(*size, forwards) for size in pace.sizes}
    return {
        f"{width}x{height}": round(seconds, 3)
        for (width, height), seconds in times.items()
        if seconds is not None
    }
