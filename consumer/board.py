"""The board: what the service shows of itself, as a health page and as gauges."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from consumer import VERSION
from consumer.checks import checks
from consumer.connection import Broker
from consumer.depth import Gauge
from consumer.dials import (
    Clock,
    delivery_facts,
    gpu_facts,
    hang_sentence,
    model_facts,
    picture_facts,
    public,
    service_s,
)
from consumer.flights import Flights
from consumer.forecast import Outlook, usual_wait_s
from consumer.gpu.devices import Address, Devices
from consumer.gpu.process import GpuProcess, GpuState
from consumer.health import Health, Phase, Snapshot, Vitals, WatchDue, derive
from consumer.intake import Intake
from consumer.keeper import Keeper
from consumer.metrics import Metrics
from consumer.replies import Replies


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts that are looked at from the start on."""

    gpu: GpuProcess
    broker: Broker
    keeper: Keeper
    devices: Devices = field(default_factory=Devices)


@dataclass(frozen=True, slots=True)
class Floor:
    """The parts that see to requests; there once the model is loaded."""

    flights: Flights
    intake: Intake
    gauge: Gauge
    replies: Replies


@dataclass(frozen=True, slots=True)
class Facts:
    """What was set, and does not change."""

    worker: str
    max_concurrent: int
    usual: tuple[int, int, int]
    """Default width and height in pixels, and steps."""
    max_queue_size: int = 20
    """As it was set; what the live queue has may differ."""


@dataclass(frozen=True, slots=True)
class News:
    """What the GPU process said."""

    text: str
    at: float
    """Monotonic seconds."""


@dataclass(slots=True)
class Sessions:
    """Counts the sessions with the broker that stood."""

    last: int = 0
    """The generation of the last one."""
    count: int = 0

    @property
    def reconnects(self) -> int:
        """Sessions after the first."""
        return max(0, self.count - 1)

    def stands(self, generation: int) -> None:
        """Take note of one that stands, as often as you like."""
        if generation != self.last:
            self.last = generation
            self.count += 1


class Board:
    """Made anew by `refresh`, in the event loop; the HTTP thread reads the last `snapshot`."""

    def __init__(self, shown: Shown, metrics: Metrics, facts: Facts) -> None:
        self._shown = shown
        self._metrics = metrics
        self._facts = facts
        self._started = time.monotonic()
        self._sessions = Sessions()
        self._counted: dict[str, int] = {}
        """Restarts of the GPU process by reason, as far as the metrics have them."""
        self.phase = Phase.STARTING
        self._gpu_news = News("", self._started)
        self.store_note: str | None = None
        """Why the store could not be opened yet."""
        self.floor: Floor | None = None
        self.live_bound: int | None = None
        """Of the queue, by the management API; None where that is not asked, or does not tell."""
        self.been_ready = False
        self.snapshot = self._look()

    def hear(self, note: str) -> None:
        """Take note of what the GPU process says; shown with the next `refresh`."""
        self._gpu_news = News(note, time.monotonic())

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
        metrics.model_loaded.set(self._loaded)
        metrics.queue_bound.set(snapshot.page["queue"]["bound"])
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
        return public(self.store_note or self._shown.keeper.problem)

    @property
    def _taking(self) -> bool:
        return self.floor is not None and self.floor.intake.taking

    def _look(self) -> Snapshot:
        gpu, broker = self._shown.gpu, self._shown.broker
        health = derive(
            Vitals(
                phase=self.phase,
                gpu=gpu.state,
                loaded=self._loaded,
                broker_connected=broker.connected,
                broker_problem=public(broker.last_problem),
                broker_blocked=broker.blocked,
                parking_problem=self.floor.replies.parking_problem if self.floor else None,
                taking=self._taking,
                store_problem=self._store_problem,
                gpu_note=public(self._gpu_news.text) or "",
                gpu_quiet_s=time.monotonic() - self._gpu_news.at,
                gpu_trouble=public(gpu.trouble),
                hang=hang_sentence(gpu.chart.hang, self._clock()),
            )
        )
        self.been_ready = self.been_ready or health.ready
        if broker.connected:
            self._sessions.stands(broker.generation)
        depth = self.floor.gauge.depth if self.floor else None
        outlook = Outlook(depth, gpu.pace.copy(), self._usual)
        page = self._page(health, outlook)
        return Snapshot(
            health,
            page,
            self.phase,
            outlook,
            time.monotonic(),
            gpu.ready is not None,
            self._watch(),
        )

    @property
    def _loaded(self) -> bool:
        """Whether a child has the model and draws, as far as we know."""
        gpu = self._shown.gpu
        draws = gpu.state in {GpuState.READY, GpuState.BUSY} and gpu.chart.hang is None
        return gpu.ready is not None and draws

    def _watch(self) -> WatchDue | None:
        """Return what the watch over the child owes. Its clock is the event loop's: monotonic."""
        due, picture = self._shown.gpu.watch_due, self._shown.gpu.drawing
        if due is None:
            return None
        if picture is None:
            return WatchDue(due, "which loads, or sends what it drew")
        return WatchDue(due, f"in job {picture.command.id}, stage {picture.stage}")

    @staticmethod
    def _clock() -> Clock:
        return Clock(time.monotonic(), datetime.now(tz=UTC))

    @property
    def _usual(self) -> tuple[int, int, int]:
        ready = self._shown.gpu.ready
        width, height, steps = self._facts.usual
        return width, height, steps - (ready.steps_per_forward_less if ready else 0)

    def _page(self, health: Health, outlook: Outlook) -> dict[str, Any]:
        clock = self._clock()
        page = {
            "version": VERSION,
            "serviceId": self._facts.worker,
            "description": "imagegen: text to image",
            "time": clock.text(clock.mono),
            "worker": self._facts.worker,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "ready": health.ready,
            "been_ready": self.been_ready,
            "model": model_facts(
                self._shown.gpu.ready, loaded=self._loaded, forwards=outlook.usual[2]
            ),
            "gpu": self._gpu(clock),
            "broker": self._broker(),
            "store": {"available": self._store_problem is None, "problem": self._store_problem},
            "queue": self._queue(outlook),
            "work": self._work(outlook, clock),
        }
        return {**page, "checks": checks(page, clock.text(clock.mono))}

    def _gpu(self, clock: Clock) -> dict[str, Any]:
        gpu, ready = self._shown.gpu, self._shown.gpu.ready
        address = Address(ready.backend, ready.pci) if ready else Address("cpu", "")
        return {
            "state": gpu.state.value,
            "restarts": gpu.restarts.total(),
            "pid": gpu.pid,
            **gpu_facts(ready, self._shown.devices.look(address), gpu.chart, clock),
            "drawing": picture_facts(gpu.drawing, clock),
        }

    def _broker(self) -> dict[str, Any]:
        broker = self._shown.broker
        return {
            "connected": broker.connected,
            "generation": broker.generation,
            "reconnects": self._sessions.reconnects,
            "version": broker.server_version,
            "problem": public(broker.last_problem),
            "blocked": broker.blocked,
        }

    def _queue(self, outlook: Outlook) -> dict[str, Any]:
        depth = outlook.depth
        in_hand = self.floor.intake.in_hand.deliveries if self.floor else 0
        wait_s = usual_wait_s(in_hand, outlook)
        told = self.live_bound is not None
        return {
            "waiting": depth.waiting if depth else None,
            "consumers": depth.consumers if depth else None,
            "bound": self.live_bound if told else self._facts.max_queue_size,
            "bound_from": "management_api" if told else "setting",
            "estimated_wait_s": None if wait_s is None else round(wait_s, 2),
        }

    def _oldest(self, clock: Clock) -> dict[str, Any] | None:
        held = self.floor.intake.in_hand.oldest if self.floor else None
        if held is None:
            return None
        picture = self._shown.gpu.picture_of(held.job_id) if held.job_id else None
        return delivery_facts(held.job_id, held.since, picture, clock)

    def _work(self, outlook: Outlook, clock: Clock) -> dict[str, Any]:
        floor = self.floor
        last_success = floor.flights.last_success if floor else None
        return {
            "taking": self._taking,
            "in_hand": floor.intake.in_hand.deliveries if floor else 0,
            "limit": self._facts.max_concurrent,
            "oldest": self._oldest(clock),
            "last_success": last_success.isoformat() if last_success else None,
            "service_s": service_s(outlook),
        }
