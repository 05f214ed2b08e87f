"""The flights: jobs under way here, each seen through once, however many deliveries wait for it."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from consumer import tracing
from consumer.admission import Delivery
from consumer.errors import Fault
from consumer.events import Events
from consumer.job import (
    Cancelled,
    Expired,
    Failed,
    GivenBack,
    Job,
    Outcome,
    Poison,
    Refused,
    Succeeded,
)
from consumer.keeper import Keeper
from consumer.logs import logger, note
from consumer.metrics import Metrics
from consumer.presence import Presence
from consumer.runner import Runner, Stop, StopCause, stopped
from consumer.store import Conflict, Elsewhere, Finished, Started, StoreLostError
from schemas.errors import ErrorCode
from schemas.events import EventState

log = logger(__name__)

PRESENCE_EVERY_S = 2.0
LOOK_ELSEWHERE_S = 2.0
"""The longest wait for another consumer's word: it may be lost, and the end stands in the store."""

DEFECT = Fault(
    ErrorCode.INTERNAL, "The service has a defect; its log has the reason. Try again later."
)
_CONFLICT = Fault(
    ErrorCode.IDEMPOTENCY_CONFLICT,
    "This message_id was used before with another body. Give every request an id of its own.",
)
_NEWS: Mapping[type[Outcome], EventState] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Refused: "failed",
    Poison: "failed",
    Cancelled: "cancelled",
    Expired: "expired",
}
_NOT_JOINED = frozenset({StopCause.EXPIRED, StopCause.ABANDONED})
"""Causes that were another delivery's: who comes after such a stop has the job begun anew."""


@dataclass(slots=True)
class Flight:
    """One job under way here; every delivery of it waits for the same outcome."""

    job: Job
    deadline: datetime
    """The latest of its deliveries'."""
    callers: set[str]
    """The reply queues that wait; empty string: it will be fetched by its id."""
    stop: Stop = field(default_factory=Stop)
    on_gpu: bool = False
    step: int | None = None
    """Denoising steps done, of the attempt of the moment."""
    step_since: float = 0.0
    """Monotonic seconds at which the step of the moment began."""
    outcome: "asyncio.Future[Outcome]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(frozen=True, slots=True)
class Crew:
    """Whom a flight needs."""

    store: Keeper
    runner: Runner
    presence: Presence
    events: Events
    metrics: Metrics
    tasks: asyncio.TaskGroup


class Flights:
    """Every job under way here, by its id."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._flights: dict[str, Flight] = {}
        self._elsewhere: dict[str, asyncio.Event] = {}
        self.last_success: datetime | None = None

    async def outcome(self, job: Job, delivery: Delivery) -> Outcome:
        """Join the flight of this job, or start one. A delivery that is dropped leaves it be."""
        flight = self._flights.get(job.id)
        while flight is not None and flight.stop.cause in _NOT_JOINED:
            await asyncio.wait({flight.outcome})
            flight = self._flights.get(job.id)
        if flight is None:
            return await asyncio.shield(self._take_off(job, delivery).outcome)
        if flight.job.body_sha256 != job.body_sha256:
            return Refused(_CONFLICT)
        return await self._join(flight, job, delivery)

    def give_back(self, *, begun_too: bool) -> None:
        """Stop the jobs that did not reach the GPU yet, or all; the queue gets them back."""
        for flight in self._flights.values():
            if begun_too or not flight.on_gpu:
                _stop(flight, StopCause.SHUTDOWN)

    def cancel(self, job_id: str, user_id: str | None, *, any_job: bool) -> bool:
        """Stop a job that is here, if this user may. Returns whether it is here."""
        flight = self._flights.get(job_id)
        if flight is None:
            return False
        if any_job or flight.job.user_id in {None, user_id}:
            _stop(flight, StopCause.CANCELLED)
        else:
            log.warning("cancel_not_allowed", job_id=job_id, user_id=user_id)
        return True

    async def close_waiting(self, job_id: str, body_sha256: str, outcome: Outcome) -> bool:
        """Give a job its end that waits in the store and is not run; False if none waits."""
        closed = await self._crew.store.close_waiting(job_id, body_sha256, outcome)
        news = _NEWS.get(type(outcome))
        if closed and news is not None:
            self._crew.events.tell(job_id, news)
        return closed

    def here(self, job_id: str) -> bool:
        """Whether a job is under way here."""
        return job_id in self._flights

    def step(self, job_id: str) -> int | None:
        """Return how many denoising steps of a job are done; None where it is not drawn here."""
        flight = self._flights.get(job_id)
        return None if flight is None else flight.step

    def done_elsewhere(self, job_id: str) -> None:
        """Wake who waits for another consumer's end of this job."""
        event = self._elsewhere.get(job_id)
        if event is not None:
            event.set()

    # ------------------------------------------------------------ take off, join

    def _take_off(self, job: Job, delivery: Delivery) -> Flight:
        flight = Flight(job, job.deadline, {delivery.reply_to or ""})
        self._flights[job.id] = flight
        self._expire_in_time(flight)
        tasks = self._crew.tasks
        watch = tasks.create_task(self._watch_callers(flight))
        fly = tasks.create_task(self._fly(flight, redelivered=delivery.redelivered))

        def land(_: object) -> None:
            watch.cancel()
            del self._flights[job.id]
            if fly.cancelled():
                flight.outcome.cancel()
            else:
                flight.outcome.set_result(fly.result())

        fly.add_done_callback(land)
        return flight

    async def _join(self, flight: Flight, job: Job, delivery: Delivery) -> Outcome:
        self._crew.metrics.joins.inc()
        note(joined=True)
        tracing.tell(joined=True)
        log.info("joined", job_id=job.id)
        flight.callers.add(delivery.reply_to or "")
        flight.deadline = max(flight.deadline, job.deadline)
        outcome = await asyncio.shield(flight.outcome)
        if isinstance(outcome, Succeeded):
            self._crew.metrics.save("joined", outcome.facts.generation_time)
        return outcome

    def _expire_in_time(self, flight: Flight) -> None:
        """Stop a flight at its deadline, which a later delivery may have moved."""
        left = (flight.deadline - datetime.now(tz=UTC)).total_seconds()
        if left <= 0:
            _stop(flight, StopCause.EXPIRED)
        elif not flight.outcome.done():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(left, self._expire_in_time, flight)
            flight.outcome.add_done_callback(lambda _: timer.cancel())

    async def _watch_callers(self, flight: Flight) -> None:
        while True:
            await asyncio.sleep(PRESENCE_EVERY_S)
            await self._look_for_callers(flight)

    async def _look_for_callers(self, flight: Flight) -> None:
        """Stop a flight that nobody waits for any more."""
        for reply_to in list(flight.callers):
            if reply_to and await self._crew.presence.gone(reply_to):
                log.info("caller_gone", job_id=flight.job.id, reply_to=reply_to)
                flight.callers.discard(reply_to)
        if not flight.callers:
            if flight.stop.cause is None:
                self._crew.metrics.abandoned.labels(str(flight.on_gpu).lower()).inc()
            _stop(flight, StopCause.ABANDONED)

    # ------------------------------------------------------------ fly

    async def _fly(self, flight: Flight, *, redelivered: bool) -> Outcome:
        """See one job through. Never raises: a defect of ours costs one answer."""
        try:
            begun = await self._begin(flight, redelivered=redelivered)
            match begun:
                case Conflict():
                    return Refused(_CONFLICT)
                case Finished(outcome=outcome, generation_time_s=seconds):
                    self._crew.metrics.replays.inc()
                    self._crew.metrics.save("replayed", seconds)
                    return outcome
                case Started():
                    return await self._run(flight, begun)
                case Elsewhere():
                    return stopped(flight.stop.cause)
            assert_never(begun)
        except StoreLostError:
            return GivenBack()
        except Exception:
            log.exception("job_broke", job_id=flight.job.id)
            return await self._end_broken(flight.job.id)

    async def _end_broken(self, job_id: str) -> Outcome:
        """Give up the lease of a job in which we broke, or others would wait for it."""
        outcome = Failed(DEFECT)
        with contextlib.suppress(Exception):
            await self._crew.store.finish(job_id, outcome)
        self._crew.events.done(job_id)
        return outcome

    async def _begin(
        self, flight: Flight, *, redelivered: bool
    ) -> Started | Finished | Conflict | Elsewhere:
        """Begin in the store; while another consumer has the job, wait for its end.

        Returns Elsewhere if the flight was stopped meanwhile.
        """
        job, store = flight.job, self._crew.store
        with tracing.stage("store", operation="begin"):
            begun = await store.begin(job, redelivered=redelivered)
        if isinstance(begun, Elsewhere):
            self._crew.metrics.joins.inc()
            log.info("joined_elsewhere", job_id=job.id, owner=begun.owner)
        while isinstance(begun, Elsewhere) and flight.stop.cause is None:
            await self._wait_elsewhere(flight, begun.left_s)
            if flight.stop.cause is None:
                begun = await store.begin(job, redelivered=True)
        return begun

    async def _wait_elsewhere(self, flight: Flight, most_s: float) -> None:
        """Wait for the other consumer's word that it is done, a stop, or the end of its lease."""
        loop = asyncio.get_running_loop()
        done = self._elsewhere[flight.job.id] = asyncio.Event()
        waits = [loop.create_task(event.wait()) for event in (done, flight.stop.requested)]
        try:
            await asyncio.wait(
                waits,
                timeout=min(max(most_s, 0.1), LOOK_ELSEWHERE_S),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            del self._elsewhere[flight.job.id]
            for wait in waits:
                wait.cancel()

    async def _run(self, flight: Flight, begun: Started) -> Outcome:
        """Draw a job that is ours, and write its end down before anybody is told."""
        job, crew = flight.job, self._crew
        steps, size = job.drawing.forwards, (job.drawing.width, job.drawing.height)
        note(attempt=begun.attempt)
        await self._look_for_callers(flight)

        def on_start() -> None:
            if not flight.on_gpu:  # a second try has waited no second time
                waited = (datetime.now(tz=UTC) - job.published).total_seconds()
                crew.metrics.queue_wait_seconds.observe(max(waited, 0.0))
            flight.on_gpu = True
            flight.step = 0
            log.info("started", job_id=job.id, attempt=begun.attempt)
            crew.events.tell(job.id, "running", 0, steps)

        def on_step(step: int, steps: int) -> None:
            flight.step = step
            now = time.monotonic()
            crew.metrics.step(step, size, now - flight.step_since)
            flight.step_since = now
            crew.events.tell(job.id, "step", step, steps)

        outcome = await crew.runner.execute(job, begun, flight.stop, on_start, on_step)
        with crew.metrics.stage("store"), tracing.stage("store", operation="finish"):
            counts = await crew.store.finish(job.id, outcome)
        log.info("ended", job_id=job.id, outcome=type(outcome).__name__.lower(), counts=counts)
        self._tell(job, outcome)
        return outcome

    def _tell(self, job: Job, outcome: Outcome) -> None:
        crew = self._crew
        crew.events.done(job.id)
        news = _NEWS.get(type(outcome))
        if news is not None:
            crew.events.tell(job.id, news, job.drawing.forwards, job.drawing.forwards)
        if isinstance(outcome, Succeeded):
            self.last_success = datetime.now(tz=UTC)
            crew.metrics.observe(outcome.facts)


def _stop(flight: Flight, cause: StopCause) -> None:
    if flight.stop.cause is None:
        log.info("stop_requested", job_id=flight.job.id, cause=cause.value)
    flight.stop.request(cause)
