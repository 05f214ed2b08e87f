"""The composition root: builds every part, and owns the order of start, drain and stop."""

import asyncio
import contextlib
import secrets
import signal
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from yarl import URL

from consumer import VERSION, exits, guard, outfit, stacks, tracing
from consumer.answers import Answers
from consumer.board import Board, Facts, Floor, Shown
from consumer.bound import Bound
from consumer.connection import Broker, Loss, Session
from consumer.control import Control
from consumer.depth import Gauge
from consumer.errors import StartRefusedError
from consumer.events import Events
from consumer.expired import Expired
from consumer.flights import Crew, Flights
from consumer.forecast import Outlook
from consumer.gpu.process import (
    GpuDefunctError,
    GpuProcess,
    GpuStartError,
)
from consumer.gpu.protocol import Ready
from consumer.health import Phase
from consumer.http.application import application
from consumer.http.face import Face, Surroundings
from consumer.http.server import HttpServer
from consumer.intake import Desk, Intake
from consumer.keeper import Keeper
from consumer.logs import configure, logger, secrets_in
from consumer.metrics import Metrics
from consumer.presence import Presence
from consumer.provision import Provision
from consumer.queries import Queries
from consumer.replies import Replies
from consumer.runner import Runner, Style
from consumer.settings import Settings
from consumer.store import Store, StoreLostError
from imagegen_client import ImageClient
from imagegen_client.nodes import nodes_in

log = logger(__name__)

T = TypeVar("T")

SNAPSHOT_EVERY_S = 0.25
LAGS_KEPT = 60
"""15 s of them: at the usual pace of scrapes none is missed."""
GATE_EVERY_S = 1.0
STORE_OPEN_EVERY_S = 2.0
GIVE_BACK_S = 10.0
"""After the drain: time for the work in hand to stop at its next step and be requeued."""


class _StopError(Exception):
    """Ends the task group when the work is done; does not leave this file."""


class Service:
    """One consumer with one GPU."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._news = asyncio.Event()
        """Something changed on which it depends whether we may take work."""
        # Another boot is another owner: what it left running is taken over, not joined.
        owner = f"{settings.worker_name}/{secrets.token_hex(8)}"
        self._store = Store(settings.store, owner)
        self._keeper = Keeper(self._store, self._changed)
        self._gpu = GpuProcess(
            outfit.load(settings), outfit.gpu_limits(settings), self._gpu_changed
        )
        self._broker = Broker(settings.amqp_url.get_secret_value(), settings.worker_name)
        self._broker.on_change(self._broker_changed)
        shown = Shown(self._gpu, self._broker, self._keeper)
        usual = (settings.default_width, settings.default_height, settings.inference_steps)
        facts = Facts(
            settings.worker_name, settings.max_concurrent, usual, settings.max_queue_size
        )
        self._board = Board(shown, self._metrics, facts)
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._lag_s = 0.0
        """The event loop's, at the most, over the last LAGS_KEPT beats."""
        face = self._face()
        app = application(face, outfit.rules(settings))
        self._http = HttpServer(settings.host, settings.port, app, face.close)

    async def run(self) -> int:
        """Serve until a signal. Returns the exit code."""
        exit_code = 0
        guard.install()
        self._metrics.build.info({"version": VERSION})
        self._metrics.concurrency_limit.set(self._settings.max_concurrent)
        self._metrics.loop_lag_seconds.set_function(self._loop_lag_s)
        self._catch_signals()
        try:
            port = self._http.start()
            log.info("http_listening", host=self._settings.host, port=port)
            async with asyncio.TaskGroup() as tasks:
                await self._serve(tasks)
        except* _StopError:
            pass
        except* StartRefusedError as refused:
            exit_code = exits.tell_refusal(refused)
        except* GpuStartError as failed:
            exit_code = exits.tell_gpu_failure(failed)
        except* GpuDefunctError as defunct:
            exit_code = exits.tell_defunct(defunct)
        finally:
            await self._shut()
        return exit_code

    def _face(self) -> Face:
        """Make the job API: a client of the queue, with a store of its own in its own thread."""
        settings = self._settings
        around = Surroundings(
            snapshot=lambda: self._board.snapshot,
            limits=lambda: outfit.limits(settings, self._gpu.ready),
            step=self._step,
            metrics=self._metrics,
        )
        # The consumer's own user may declare no queue but one that the broker names.
        own = settings.http_amqp_url
        client = ImageClient(
            (own or settings.amqp_url).get_secret_value(),
            reply_queue="durable" if own else "exclusive",
        )
        store = Store(settings.store, f"{settings.worker_name}/http-{secrets.token_hex(8)}")
        return Face(around, store, client, settings.http_max_waiting)

    # ------------------------------------------------------------ start

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        settings, keeper = self._settings, self._keeper
        events = Events(settings.worker_name)
        for work in (self._gpu.run(), self._beat(), events.run()):
            tasks.create_task(_unmissed(work))
        opened = await self._until_stopped(self._open_store())
        ready = await self._until_stopped(self._gpu.wait_ready()) if opened else None
        if ready is not None:
            for tending in (
                keeper.renew(),
                keeper.recover(),
                keeper.prune(settings.result_ttl_s, settings.result_max_bytes),
            ):
                tasks.create_task(_unmissed(tending))
            floor = self._board.floor = self._furnish(ready, events, tasks)
            tasks.create_task(_unmissed(self._broker.run()))
            tasks.create_task(_unmissed(self._mind_the_gate(floor)))
            await self._until_stopped(self._broker.wait_connected())
            self._enter(Phase.RUNNING)
            await self._stopping.wait()
            await self._drain(floor)
        # The end of a GPU process that does not go takes seconds, and nobody looks any more.
        self._enter(Phase.STOPPED)
        raise _StopError

    async def _open_store(self) -> bool:
        """Open the store; while it is away, say so and try again."""
        while True:
            try:
                await self._store.open()
            except StoreLostError as error:
                known, self._board.store_note = self._board.store_note, str(error)
                self._board.refresh()
                if known is None:
                    log.warning("store_lost", problem=str(error))
                await asyncio.sleep(STORE_OPEN_EVERY_S)
            else:
                self._board.store_note = None
                return True

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

    def _furnish(self, ready: Ready, events: Events, tasks: asyncio.TaskGroup) -> Floor:
        """Make the parts that see to requests, and have them attached to every session."""
        settings, metrics, keeper = self._settings, self._metrics, self._keeper
        limits = outfit.limits(settings, ready)
        replies = Replies(self._broker, settings.max_reply_bytes, metrics)
        answers = Answers(replies, keeper, metrics)
        style = Style(settings.worker_name, settings.embed_metadata)
        runner = Runner(self._gpu, keeper, metrics, style)
        presence = Presence(self._broker)
        flights = Flights(Crew(keeper, runner, presence, events, metrics, tasks))
        intake = Intake(
            Desk(
                limits=limits,
                flights=flights,
                answers=answers,
                metrics=metrics,
                tasks=tasks,
                prefetch=settings.max_concurrent,
                worker=settings.worker_name,
                shared_store=not settings.store.startswith("sqlite"),
                on_change=self._board.refresh,
            )
        )
        expired = Expired(answers, flights, limits, metrics, tasks)
        gauge = Gauge(tasks)
        queries = Queries(keeper, flights, self._broker, self._outlook, tasks)
        for attachment in (
            self._provision,
            events.attach,
            Control(flights, keeper, events, queries).attach,
            expired.attach,
            gauge.attach,
            self._bound(tasks).attach,
            intake.attach,
        ):
            self._broker.attach(attachment)
        return Floor(flights, intake, gauge, replies)

    async def _mind_the_gate(self, floor: Floor) -> None:
        """Take work exactly while it can be done: the GPU works and the store can be written."""
        news = self._news
        while not self._stopping.is_set():
            if self._gpu.usable and self._keeper.healthy:
                await floor.intake.take()
            else:
                await floor.intake.stop_taking()
            if not self._gpu.usable:
                # What waits for its turn here is drawn sooner by another consumer.
                floor.flights.give_back(begun_too=False)
            news.clear()
            await self._until_changed(news)

    @staticmethod
    async def _until_changed(news: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATE_EVERY_S):
                await news.wait()

    async def _provision(self, session: Session) -> None:
        settings = self._settings
        provision = Provision(settings.topology, settings.max_queue_size, *self._managed())
        try:
            sentences = await provision.apply(session.consume)
        except StartRefusedError as refused:
            if self._board.phase is Phase.STARTING:
                raise
            # We run already: what changed may change back, and there is work in hand.
            raise ConnectionError(" ".join(refused.sentences)) from refused
        self._board.live_bound = provision.bound
        for sentence in sentences:
            log.warning("topology", problem=sentence)

    def _bound(self, tasks: asyncio.TaskGroup) -> Bound:
        """Return what shows a bound that is changed while we run."""

        def changed(bound: int | None) -> None:
            self._board.live_bound = bound
            self._board.refresh()

        vhost, management_url = self._managed()
        return Bound(management_url, vhost, changed, tasks)

    def _managed(self) -> tuple[str, str | None]:
        """Return our vhost, and where it is managed."""
        node = nodes_in(self._settings.amqp_url.get_secret_value())[0]
        management = self._settings.management_url
        told = None if management is None else management.get_secret_value()
        return URL(node).path[1:] or "/", told

    # ------------------------------------------------------------ drain and stop

    async def _drain(self, floor: Floor) -> None:
        """Take nothing more, finish what is on the GPU, and at the limit give the rest back."""
        in_hand = floor.intake.in_hand
        self._enter(Phase.DRAINING)
        log.info("draining", deliveries=in_hand.deliveries)
        await floor.intake.stop_taking()
        # What waits for its turn here is drawn sooner by another consumer.
        floor.flights.give_back(begun_too=False)
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._until(in_hand.idle.wait(), self._hurrying)
        except TimeoutError:
            log.warning("drain_limit_reached", deliveries=in_hand.deliveries)
        if not in_hand.idle.is_set():
            log.info("giving_back", deliveries=in_hand.deliveries)
            floor.flights.give_back(begun_too=True)
            try:
                async with asyncio.timeout(GIVE_BACK_S):
                    await in_hand.idle.wait()
            except TimeoutError:
                log.warning("left_to_the_broker", deliveries=in_hand.deliveries)

    async def _shut(self) -> None:
        self._enter(Phase.STOPPED)
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

    # ------------------------------------------------------------ show

    def _loop_lag_s(self) -> float:
        """Return how late the event loop is; asked in the HTTP thread, so while it stands too."""
        standing = time.monotonic() - self._board.snapshot.beat - SNAPSHOT_EVERY_S
        return max(self._lag_s, standing, 0.0)

    async def _beat(self) -> None:
        lags: deque[float] = deque(maxlen=LAGS_KEPT)
        while True:
            if not self._http.running:
                raise RuntimeError("the HTTP thread has ended")
            self._board.refresh()
            due = time.monotonic() + SNAPSHOT_EVERY_S
            await asyncio.sleep(SNAPSHOT_EVERY_S)
            lags.append(time.monotonic() - due)
            self._lag_s = max(lags)

    def _enter(self, phase: Phase) -> None:
        self._board.phase = phase
        self._board.refresh()

    def _step(self, job_id: str) -> int | None:
        """Return how many steps of a job are done here; asked in the HTTP thread, too."""
        floor = self._board.floor
        return None if floor is None else floor.flights.step(job_id)

    def _outlook(self) -> Outlook:
        return self._board.snapshot.outlook

    def _changed(self) -> None:
        """Look again whether we may take work."""
        self._news.set()
        self._board.refresh()

    def _broker_changed(self) -> None:
        if not self._broker.connected:
            self._count_loss()
        self._changed()

    def _count_loss(self) -> None:
        loss = self._broker.lost_by
        if loss is not None:
            self._metrics.reconnects.labels(loss.value).inc()
            self._metrics.server_cancels.inc(loss is Loss.SERVER_CANCEL)

    def _gpu_changed(self, note: str) -> None:
        if self._gpu.ready is not None:
            self._metrics.show_model(self._gpu.ready)
        if note:
            self._board.hear(note)
        self._changed()
        if note:  # after the page, which says the same to whoever looks on hearing this
            log.info("gpu", state=self._gpu.state.value, note=note)


async def _unmissed(work: Coroutine[Any, Any, None]) -> None:
    """Await a task of the service's; a task group would miss one that a library cancelled.

    Raises:
        RuntimeError: somebody else than we cancelled it: the service must not go on without.
    """
    try:
        await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise RuntimeError("a task of the service was cancelled by a library") from None
        raise


def serve(settings: Settings) -> int:
    """Run a service until a signal. Returns the exit code."""
    secrets = secrets_in(settings)
    configure(settings.log_format, settings.log_level, secrets, prompts=settings.log_prompts)
    send_last_spans = tracing.set_up(settings.worker_name)
    try:
        with stacks.told_on_signal():
            return asyncio.run(_serve(settings))
    finally:
        send_last_spans()


async def _serve(settings: Settings) -> int:
    try:
        service = Service(settings)
    except StartRefusedError as refused:
        return exits.tell_refusal(ExceptionGroup("", [refused]))
    return await service.run()
