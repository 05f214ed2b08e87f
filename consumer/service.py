"""The composition root: builds every part, and owns the order of start, drain and stop."""

import asyncio
import re
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from yarl import URL

from consumer import VERSION, guard, topology
from consumer.admission import Limits
from consumer.connection import Broker, Session
from consumer.control import Control
from consumer.errors import EXIT_CONFIG, EXIT_TEMPORARY, StartRefusedError
from consumer.events import Events
from consumer.expired import Expired
from consumer.gpu.process import GpuProcess, GpuStartError, GpuState
from consumer.gpu.protocol import Load, Ready
from consumer.health import Health, Phase, Snapshot, Vitals, derive
from consumer.http.probes import routes
from consumer.http.server import HttpServer
from consumer.intake import Desk, Intake
from consumer.logs import configure, logger
from consumer.metrics import Metrics
from consumer.provision import Provision
from consumer.replies import Replies
from consumer.runner import Runner, Style
from consumer.settings import Settings
from consumer.store import Store

log = logger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

SNAPSHOT_EVERY_S = 0.25
PRUNE_EVERY_S = 60.0
GIVE_BACK_S = 10.0
"""After the drain: time for the work in hand to stop at its next step and be requeued."""


class _StopError(Exception):
    """Ends the task group when the work is done; does not leave this file."""


@dataclass(slots=True)
class _Status:
    """What the health page is made of, beside what the parts say themselves."""

    phase: Phase = Phase.STARTING
    gpu_note: str = ""


class Service:
    """One consumer with one GPU."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._status = _Status()
        self._started = time.monotonic()
        self._metrics = Metrics()
        self._store = Store(settings.store)
        self._gpu = GpuProcess(
            _load(settings), job_timeout_s=settings.job_timeout_s, on_change=self._gpu_changed
        )
        self._broker = Broker(settings.amqp_url.get_secret_value(), settings.worker_name)
        self._broker.on_change(self._broker_changed)
        self._intake: Intake | None = None
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._snapshot = self._make_snapshot()
        self._http = HttpServer(
            settings.host, settings.port, routes(lambda: self._snapshot, self._metrics)
        )

    async def run(self) -> int:
        """Serve until a signal. Returns the exit code."""
        exit_code = 0
        guard.install()
        self._metrics.build.info({"version": VERSION})
        self._catch_signals()
        try:
            port = self._http.start()
            log.info("http_listening", host=self._settings.host, port=port)
            await self._store.open()
            async with asyncio.TaskGroup() as tasks:
                await self._serve(tasks)
        except* _StopError:
            pass
        except* StartRefusedError as refused:
            exit_code = _tell_refusal(refused)
        except* GpuStartError as failed:
            exit_code = _tell_gpu_failure(failed)
        except* SQLAlchemyError as lost:
            log.exception("store_lost", problem=str(_first_leaf(lost)))
            exit_code = EXIT_TEMPORARY
        finally:
            await self._shut()
        return exit_code

    # ------------------------------------------------------------ start

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        events = Events(self._settings.worker_name)
        replies = Replies(self._broker, self._settings.max_reply_bytes)
        for work in (self._gpu.run(), self._beat(), events.run(), self._prune()):
            tasks.create_task(work)
        ready = await self._until_stopped(self._gpu.wait_ready())
        if ready is not None:
            intake = self._intake = Intake(self._desk(ready, events, replies, tasks))
            limits = _limits(self._settings, ready)
            expired = Expired(replies, limits, self._metrics, tasks)
            for attachment in (
                self._provision,
                events.attach,
                Control(intake.cancel).attach,
                expired.attach,
                intake.attach,
            ):
                self._broker.attach(attachment)
            tasks.create_task(self._broker.run())
            await self._until_stopped(self._broker.wait_connected())
            self._status.phase = Phase.RUNNING
            await self._stopping.wait()
            await self._drain(intake)
        raise _StopError

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await `work`, or give it up when we are told to stop."""
        return await self._until(work, self._stopping)

    @staticmethod
    async def _until(work: Coroutine[Any, Any, T], end: asyncio.Event) -> T | None:
        """Await `work`, or give it up for None when `end` is set first."""
        async with asyncio.TaskGroup() as race:
            worker = race.create_task(work)
            stopper = race.create_task(end.wait())
            await asyncio.wait({worker, stopper}, return_when=asyncio.FIRST_COMPLETED)
            stopper.cancel()
            if not worker.done():
                worker.cancel()
        return None if worker.cancelled() else worker.result()

    def _desk(
        self, ready: Ready, events: Events, replies: Replies, tasks: asyncio.TaskGroup
    ) -> Desk:
        settings = self._settings
        return Desk(
            limits=_limits(settings, ready),
            store=self._store,
            runner=Runner(
                self._gpu, self._store, Style(settings.worker_name, settings.embed_metadata)
            ),
            replies=replies,
            events=events,
            metrics=self._metrics,
            tasks=tasks,
            prefetch=settings.max_concurrent,
            worker=settings.worker_name,
            shared_store=not settings.store.startswith("sqlite"),
        )

    async def _provision(self, session: Session) -> None:
        settings = self._settings
        url = URL(settings.amqp_url.get_secret_value())
        management = settings.management_url
        provision = Provision(
            settings.topology,
            settings.max_queue_size,
            url.path[1:] or "/",
            None if management is None else management.get_secret_value(),
        )
        try:
            sentences = await provision.apply(session.consume)
        except StartRefusedError as refused:
            if self._status.phase is Phase.STARTING:
                raise
            # We run already: what changed may change back, and there is work in hand.
            raise ConnectionError(" ".join(refused.sentences)) from refused
        for sentence in sentences:
            log.warning("topology", problem=sentence)

    # ------------------------------------------------------------ drain and stop

    async def _drain(self, intake: Intake) -> None:
        """Take nothing more, finish what is in hand, and at the limit give the rest back."""
        self._status.phase = Phase.DRAINING
        log.info("draining", deliveries=intake.in_hand.deliveries)
        await intake.stop_taking()
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._until(intake.in_hand.idle.wait(), self._hurrying)
        except TimeoutError:
            log.warning("drain_limit_reached", deliveries=intake.in_hand.deliveries)
        if not intake.in_hand.idle.is_set():
            log.info("giving_back", deliveries=intake.in_hand.deliveries)
            intake.give_everything_back()
            try:
                async with asyncio.timeout(GIVE_BACK_S):
                    await intake.in_hand.idle.wait()
            except TimeoutError:
                log.warning("left_to_the_broker", deliveries=intake.in_hand.deliveries)

    async def _shut(self) -> None:
        self._status.phase = Phase.STOPPED
        await self._gpu.stop()
        await self._store.close()
        self._http.stop()
        log.info("stopped")

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        """The first signal drains, the second skips the wait."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    # ------------------------------------------------------------ health

    async def _beat(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(SNAPSHOT_EVERY_S)

    def _refresh(self) -> None:
        self._snapshot = self._make_snapshot()
        self._metrics.ready.set(self._snapshot.health.ready)

    def _broker_changed(self) -> None:
        if not self._broker.connected:
            self._metrics.reconnects.inc()
        self._refresh()

    def _make_snapshot(self) -> Snapshot:
        gpu, broker = self._gpu, self._broker
        health = derive(
            Vitals(
                self._status.phase,
                gpu.state,
                gpu.ready is not None and gpu.state in {GpuState.READY, GpuState.BUSY},
                broker.connected,
                broker.last_problem,
                self._status.gpu_note,
            )
        )
        return Snapshot(health, self._page(health), time.monotonic())

    def _page(self, health: Health) -> dict[str, Any]:
        gpu, broker, intake = self._gpu, self._broker, self._intake
        ready = gpu.ready
        return {
            "version": VERSION,
            "worker": self._settings.worker_name,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "ready": health.ready,
            "model": None
            if ready is None
            else {
                "id": ready.model,
                "revision": ready.revision,
                "pipeline": ready.pipeline,
                "dtype": ready.dtype,
                "load_s": ready.load_seconds,
                "versions": ready.versions,
            },
            "gpu": {
                "state": gpu.state.value,
                "device": ready.device if ready else None,
                "name": ready.device_name if ready else None,
                "backend": ready.backend if ready else None,
                "restarts": gpu.restarts,
                "pid": gpu.pid,
            },
            "broker": {
                "connected": broker.connected,
                "generation": broker.generation,
                "version": broker.server_version,
                "problem": broker.last_problem,
            },
            "work": {
                "in_hand": intake.in_hand.deliveries if intake else 0,
                "limit": self._settings.max_concurrent,
                "last_success": intake.in_hand.last_success.isoformat()
                if intake and intake.in_hand.last_success
                else None,
            },
        }

    def _gpu_changed(self, note: str) -> None:
        if self._gpu.state is GpuState.DEAD:
            self._metrics.child_restarts.inc()
        if note:
            self._status.gpu_note = note
            self._refresh()
            log.info("gpu", state=self._gpu.state.value, note=note)

    async def _prune(self) -> None:
        while True:
            settings = self._settings
            try:
                removed = await self._store.prune(
                    settings.result_ttl_s, settings.result_max_bytes
                )
                log.debug("results_pruned", jobs=removed)
            except SQLAlchemyError as error:
                log.warning("results_not_pruned", problem=str(error))
            await asyncio.sleep(PRUNE_EVERY_S)


def serve(settings: Settings) -> int:
    """Run a service until a signal. Returns the exit code."""
    configure(settings.log_format, settings.log_level)
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    return await Service(settings).run()


def _load(settings: Settings) -> Load:
    return Load(
        settings.pipeline,
        settings.model,
        settings.model_revision,
        settings.device,
        settings.memory,
        str(settings.data_dir.absolute()),
    )


def _limits(settings: Settings, ready: Ready) -> Limits:
    return Limits(
        default_width=settings.default_width,
        default_height=settings.default_height,
        default_steps=settings.inference_steps,
        guidance_scale=settings.guidance_scale,
        steps_per_forward_less=ready.steps_per_forward_less,
        size_multiple=ready.size_multiple,
        default_deadline=timedelta(seconds=settings.default_deadline_s),
        reply_to_allow=re.compile(settings.reply_to_allow),
        own_objects=topology.OWN_OBJECTS,
    )


def _tell_refusal(group: BaseExceptionGroup[StartRefusedError]) -> int:
    refused = _first_leaf(group)
    for sentence in refused.sentences:
        log.error("start_refused", problem=sentence)
    return refused.exit_code


def _tell_gpu_failure(group: BaseExceptionGroup[GpuStartError]) -> int:
    failed = _first_leaf(group)
    log.error("model_cannot_be_loaded", problem=str(failed))
    return EXIT_CONFIG if failed.permanent else EXIT_TEMPORARY


def _first_leaf(group: BaseExceptionGroup[E]) -> E:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
