"""The board: what the service shows of itself, as a health page and as gauges."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

from consumer import VERSION
from consumer.connection import Broker
from consumer.depth import Gauge
from consumer.flights import Flights
from consumer.forecast import Outlook, usual_wait_s
from consumer.gpu.process import GpuProcess, GpuState
from consumer.gpu.protocol import Ready
from consumer.health import Health, Phase, Snapshot, Vitals, derive
from consumer.intake import Intake
from consumer.keeper import Keeper
from consumer.metrics import Metrics

_WITH_MODEL = {GpuState.READY, GpuState.BUSY}


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts that are looked at from the start on."""

    gpu: GpuProcess
    broker: Broker
    keeper: Keeper


@dataclass(frozen=True, slots=True)
class Floor:
    """The parts that see to requests; there once the model is loaded."""

    flights: Flights
    intake: Intake
    gauge: Gauge


@dataclass(frozen=True, slots=True)
class Facts:
    """What was set, and does not change."""

    worker: str
    max_concurrent: int
    usual: tuple[int, int, int]
    """Default width and height in pixels, and steps."""


class Board:
    """Made anew by `refresh`, in the event loop; the HTTP thread reads the last `snapshot`."""

    def __init__(self, shown: Shown, metrics: Metrics, facts: Facts) -> None:
        self._shown = shown
        self._metrics = metrics
        self._facts = facts
        self._started = time.monotonic()
        self._counted: dict[str, int] = {}
        """Restarts of the GPU process by reason, as far as the metrics have them."""
        self.phase = Phase.STARTING
        self.gpu_note = ""
        self.store_note: str | None = None
        """Why the store could not be opened yet."""
        self.floor: Floor | None = None
        self.snapshot = self._look()

    def refresh(self) -> None:
        """Look at every part again."""
        snapshot, metrics = self._look(), self._metrics
        self.snapshot = snapshot
        metrics.ready.set(snapshot.health.ready)
        metrics.store_available.set(self._store_problem is None)
        metrics.consuming.set(self._taking)
        depth = snapshot.outlook.depth
        metrics.draining.set(self.phase is Phase.DRAINING)
        metrics.broker_connected.set(self._shown.broker.connected)
        gpu = self._shown.gpu
        metrics.model_loaded.set(gpu.ready is not None and gpu.state in _WITH_MODEL)
        metrics.show_gpu(snapshot.page["gpu"])
        metrics.queue_waiting.set(math.nan if depth is None else depth.waiting)
        metrics.queue_consumers.set(math.nan if depth is None else depth.consumers)
        wait_s = snapshot.page["queue"]["estimated_wait_s"]
        metrics.estimated_wait_seconds.set(math.nan if wait_s is None else wait_s)
        metrics.tasks.set(len(asyncio.all_tasks()))
        for reason, count in self._shown.gpu.restarts.items():
            metrics.child_restarts.labels(reason).inc(count - self._counted.get(reason, 0))
            self._counted[reason] = count

    @property
    def _store_problem(self) -> str | None:
        return self.store_note or self._shown.keeper.problem

    @property
    def _taking(self) -> bool:
        return self.floor is not None and self.floor.intake.taking

    def _look(self) -> Snapshot:
        gpu, broker = self._shown.gpu, self._shown.broker
        health = derive(
            Vitals(
                phase=self.phase,
                gpu=gpu.state,
                loaded=gpu.ready is not None and gpu.state in {GpuState.READY, GpuState.BUSY},
                broker_connected=broker.connected,
                broker_problem=broker.last_problem,
                broker_blocked=broker.blocked,
                taking=self._taking,
                store_problem=self._store_problem,
                gpu_note=self.gpu_note,
            )
        )
        depth = self.floor.gauge.depth if self.floor else None
        outlook = Outlook(depth, gpu.pace.copy(), self._usual)
        page = self._page(health, outlook)
        return Snapshot(health, page, self.phase, outlook, time.monotonic())

    @property
    def _usual(self) -> tuple[int, int, int]:
        ready = self._shown.gpu.ready
        width, height, steps = self._facts.usual
        return width, height, steps - (ready.steps_per_forward_less if ready else 0)

    def _page(self, health: Health, outlook: Outlook) -> dict[str, Any]:
        return {
            "version": VERSION,
            "worker": self._facts.worker,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "ready": health.ready,
            "model": _model(self._shown.gpu.ready),
            "gpu": _gpu(self._shown.gpu),
            "broker": _broker(self._shown.broker),
            "store": {"available": self._store_problem is None, "problem": self._store_problem},
            "queue": self._queue(outlook),
            "work": self._work(),
        }

    def _queue(self, outlook: Outlook) -> dict[str, Any]:
        depth = outlook.depth
        in_hand = self.floor.intake.in_hand.deliveries if self.floor else 0
        wait_s = usual_wait_s(in_hand, outlook)
        return {
            "waiting": depth.waiting if depth else None,
            "consumers": depth.consumers if depth else None,
            "estimated_wait_s": None if wait_s is None else round(wait_s, 2),
        }

    def _work(self) -> dict[str, Any]:
        floor = self.floor
        last_success = floor.flights.last_success if floor else None
        return {
            "taking": self._taking,
            "in_hand": floor.intake.in_hand.deliveries if floor else 0,
            "limit": self._facts.max_concurrent,
            "last_success": last_success.isoformat() if last_success else None,
        }


def _model(ready: Ready | None) -> dict[str, Any] | None:
    if ready is None:
        return None
    return {
        "id": ready.model,
        "revision": ready.revision,
        "pipeline": ready.pipeline,
        "dtype": ready.dtype,
        "load_s": ready.load_seconds,
        "versions": ready.versions,
    }


def _gpu(gpu: GpuProcess) -> dict[str, Any]:
    ready = gpu.ready
    return {
        "state": gpu.state.value,
        "device": ready.device if ready else None,
        "name": ready.device_name if ready else None,
        "backend": ready.backend if ready else None,
        "restarts": gpu.restarts.total(),
        "pid": gpu.pid,
    }


def _broker(broker: Broker) -> dict[str, Any]:
    return {
        "connected": broker.connected,
        "generation": broker.generation,
        "version": broker.server_version,
        "problem": broker.last_problem,
        "blocked": broker.blocked,
    }
