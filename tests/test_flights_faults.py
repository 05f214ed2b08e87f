"""Two consumers and a fault at any await: every accepted request still gets exactly one outcome.

The flights, the keeper, the runner and the store are the real ones; the queue, the GPU and the
callers are played, so that each of their steps may go wrong in every way that there is.
"""

import asyncio
import contextlib
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer import flights as flights_file
from consumer import keeper as keeper_file
from consumer.admission import Delivery
from consumer.flights import DEFECT, Crew, Flights
from consumer.gpu.pace import Pace
from consumer.gpu.process import (
    DrawingFailedError,
    DrawingStoppedError,
    Frame,
    GpuDiedError,
    GpuLimits,
    GpuTimeoutError,
)
from consumer.job import (
    SETTLEMENT,
    Abandoned,
    Cancelled,
    Failed,
    GivenBack,
    Poison,
    Refused,
    Succeeded,
)
from consumer.keeper import Keeper
from consumer.metrics import Metrics
from consumer.runner import MAX_DEATHS, Runner, Style
from consumer.store import Store, StoreLostError
from tests.storing import job

STEPS = 2
SIDE = 16
GPU_FAULTS = {
    "died": (GpuDiedError, "died"),
    "hung": (GpuTimeoutError, "hung"),
    "oom": (DrawingFailedError, "out_of_memory", "too little."),
    "nan": (DrawingFailedError, "nan_output", "no numbers."),
    "internal": (DrawingFailedError, "internal", "boom."),
    "defect": (ZeroDivisionError, "a defect of ours"),
}
FAULTS = st.sampled_from(
    [
        *[None] * 6,
        *GPU_FAULTS,
        "store before",
        "store after",
        "cancel",
        "caller leaves",
        "redeliver",
        "give back",
        "kill",
    ]
)


class World:
    """The queue, the callers, two consumers, and what is still to go wrong."""

    def __init__(self, folder, faults):
        self.url = f"sqlite:///{folder / 'jobs.sqlite'}"
        self.faults = list(faults)
        self.queue = asyncio.Queue()
        self.answers = {}
        self.gone = set()
        self.deaths = Counter()
        self.broke = set()
        self.consumers = []
        self.settled = asyncio.Event()

    def fault(self):
        """The next thing to go wrong, if any is left."""
        return self.faults.pop(0) if self.faults else None

    def publish(self, name):
        """A request of one caller; two of each job, under one id."""
        request = (str(uuid4()), name)
        self.answers[request] = []
        self.queue.put_nowait((request, False))

    def look(self):
        """See whether everything is answered, and nothing is on its way any more."""
        in_hand = any(consumer.in_hand for consumer in self.consumers)
        if all(self.answers.values()) and self.queue.empty() and not in_hand:
            self.settled.set()

    async def happen(self, consumer, job_id):
        """An await at which something may happen to those around."""
        match self.fault():
            case "cancel":
                for each in self.consumers:
                    if not each.flights.cancel(job_id, None, any_job=True):
                        await each.keeper.remember_cancel(job_id, None, any_job=True)
            case "caller leaves":
                self.gone |= {request[0] for request in self.answers if request[1] == job_id}
            case "redeliver":
                consumer.lose_link()
            case "give back":
                consumer.flights.give_back(begun_too=True)
            case "kill":
                consumer.kill()
            case fault:
                return fault
        await asyncio.sleep(0)
        return None


class Consumer:
    """One service without its edges."""

    def __init__(self, world, tasks):
        self.world = world
        self.tasks = tasks
        self.alive = True
        self.session = object()
        self.in_hand = {}
        store = FaultyStore(world, self, f"owner/{uuid4()}")
        self.keeper = Keeper(store, lambda: None)
        runner = Runner(
            FaultyGpu(world, self), self.keeper, Metrics(), Style("tester", embed_prompt=False)
        )
        crew = Crew(self.keeper, runner, Callers(world), self, Metrics(), self)
        self.flights = Flights(crew)
        self.store = store
        self.running = [self.create_task(work) for work in (self.take(), self.keeper.recover())]

    # What the crew asks of a task group and of the events.
    def create_task(self, work):
        task = self.tasks.create_task(self._quietly(work))
        task.add_done_callback(lambda _: work.close())  # it may be killed before it began
        self._children = [*getattr(self, "_children", []), task]
        return task

    async def _quietly(self, work):
        with contextlib.suppress(asyncio.CancelledError):
            return await work

    def tell(self, *_):
        pass

    def done(self, job_id):
        for consumer in self.world.consumers:
            consumer.flights.done_elsewhere(job_id)

    # What the edges do.
    async def take(self):
        while True:
            if not self.keeper.healthy:
                await asyncio.sleep(0.001)
                continue
            request, redelivered = await self.world.queue.get()
            self.in_hand[request] = self.session
            self.create_task(self.handle(request, redelivered, self.session))

    async def handle(self, request, redelivered, session):
        caller, name = request
        delivery = Delivery(
            b"{}", request[0], reply_to=caller, correlation_id=caller, redelivered=redelivered
        )
        deadline = datetime.now(tz=UTC) + timedelta(hours=1)
        wanted = replace(job(name), published=deadline, deadline=deadline)
        outcome = await self.flights.outcome(wanted, delivery)
        if session is not self.session or not self.alive:
            return  # forgotten: the broker brought it again
        del self.in_hand[request]
        if SETTLEMENT[type(outcome)].settle == "requeue":
            self.world.queue.put_nowait((request, True))
        else:
            self.world.answers[request].append(outcome)
        self.world.look()

    def lose_link(self):
        """All deliveries come again, to whoever is first; the jobs go on."""
        self.session = object()
        for request in self.in_hand:
            self.world.queue.put_nowait((request, True))
        self.in_hand = {}

    def kill(self):
        """Dead in the middle of whatever it did, and another boot in its place."""
        if not self.alive:
            return
        self.alive = False
        self.lose_link()
        for task in self._children:
            task.cancel()
        self.store.release()
        self.world.consumers.remove(self)
        self.world.consumers.append(Consumer(self.world, self.tasks))


class FaultyStore(Store):
    """The real store; before or after a step it may be lost."""

    def __init__(self, world, consumer, owner):
        super().__init__(world.url, owner)
        self._world, self._consumer = world, consumer

    async def _step(self, work, *, writes=True):
        fault = self._world.fault()
        if fault == "store before":
            raise StoreLostError("lost before")
        result = await super()._step(work, writes=writes)
        if fault == "store after":
            raise StoreLostError("lost after")
        return result

    def release(self):
        self._kind.release()


class Callers:
    """Who still waits."""

    def __init__(self, world):
        self._world = world

    async def gone(self, reply_to):
        return reply_to in self._world.gone


class FaultyGpu:
    """Draws in turn; between any two steps something may happen."""

    ready = None

    def __init__(self, world, consumer):
        self._world, self._consumer = world, consumer
        self._turn = asyncio.Lock()
        self.pace = Pace(GpuLimits())

    async def generate(self, command, on_step, stop, on_start):
        async with self._turn:
            for step in range(STEPS):
                if stop.is_set():
                    raise DrawingStoppedError("stopped")
                if step == 0:
                    on_start()
                fault = await self._world.happen(self._consumer, command.id)
                if fault in GPU_FAULTS:
                    self._world.deaths[command.id] += fault in {"died", "hung"}
                    self._world.broke |= {command.id} if fault == "defect" else set()
                    kind, *words = GPU_FAULTS[fault]
                    raise kind(*words)
                on_step(step + 1, STEPS)
        pixels = bytearray(bytes([command.seed % 256, 1, 2]) * (SIDE * SIDE))
        return Frame(pixels, SIDE, SIDE, STEPS, {}, {}, 0.0, 0.1)


async def _play(folder, faults, names):
    world = World(folder, faults)
    with (
        patch.object(keeper_file, "PROBE_EVERY_S", 0.001),
        patch.object(flights_file, "LOOK_ELSEWHERE_S", 0.01),
        patch.object(flights_file, "PRESENCE_EVERY_S", 0.001),
    ):
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            world.consumers = [Consumer(world, tasks), Consumer(world, tasks)]
            for name in names:
                world.publish(name)
            await world.settled.wait()
            for consumer in list(world.consumers):
                for task in consumer._children:
                    task.cancel()
        for consumer in world.consumers:
            await consumer.store.close()
    return world


@settings(
    max_examples=60,
    derandomize=True,
)
@given(
    faults=st.lists(FAULTS, max_size=40),
    names=st.lists(st.sampled_from(["anna", "ben", "cleo"]), min_size=1, max_size=6),
)
def test_every_accepted_request_gets_exactly_one_outcome(faults, names):
    """Whatever goes wrong at whichever await: one outcome each, and one picture a job."""
    with tempfile.TemporaryDirectory() as folder:
        world = asyncio.run(_play(Path(folder), faults, names))
    pictures = {}
    for (caller, name), outcomes in world.answers.items():
        assert len(outcomes) == 1, (name, outcomes)
        (outcome,) = outcomes
        assert type(outcome) in {Succeeded, Failed, Poison, Cancelled, Abandoned, Refused}
        assert not isinstance(outcome, GivenBack)
        assert getattr(outcome, "fault", None) is not DEFECT or name in world.broke, outcome
        if isinstance(outcome, Succeeded):
            pictures.setdefault(name, set()).add(outcome.image)
        if isinstance(outcome, Poison):
            assert world.deaths[name] >= MAX_DEATHS
        if isinstance(outcome, Abandoned):
            assert caller in world.gone
    assert all(len(images) == 1 for images in pictures.values())
