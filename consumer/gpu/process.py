"""The GPU process: the parent's handle on the child that draws. Watches, kills and replaces it."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum

from consumer.gpu.breaker import NOBODY, Breaker
from consumer.gpu.chart import Chart, Hang
from consumer.gpu.child import Child, Ears, Parting, spawn
from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.picture import (
    DrawingFailedError,
    DrawingStoppedError,
    Frame,
    GpuDiedError,
    GpuError,
    GpuTimeoutError,
    OnStep,
    Picture,
)
from consumer.gpu.protocol import Done, Failed, Generate, Load, LoadFailed, Ready, Stopped

__all__ = [
    "DrawingFailedError",
    "DrawingStoppedError",
    "Frame",
    "GpuDefunctError",
    "GpuDiedError",
    "GpuError",
    "GpuLimits",
    "GpuProcess",
    "GpuStartError",
    "GpuState",
    "GpuTimeoutError",
    "OnStep",
    "Pace",
]

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before a replacement, by failures in a row since the last picture."""
NOT_THE_GPUS_DOING = {"invalid_request"}
OUT_OF_MEMORY = "out_of_memory"
CANARY = Generate("canary", "a canary in a cage", 256, 256, 1, 2, 0.0)
"""A picture of our own: small, few steps, and nobody's."""


class GpuState(StrEnum):
    """Where the child stands."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    DEAD = "dead"
    DEFUNCT = "defunct"
    """The GPU is taken for broken; children come and go under it, and draw test pictures only."""
    STOPPED = "stopped"


TRANSITIONS: dict[GpuState, frozenset[GpuState]] = {
    GpuState.STARTING: frozenset({GpuState.LOADING, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.LOADING: frozenset({GpuState.READY, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.READY: frozenset({GpuState.BUSY, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.BUSY: frozenset(
        {
            GpuState.READY,
            GpuState.STARTING,  # recycled
            GpuState.DEAD,
            GpuState.DEFUNCT,
            GpuState.STOPPED,
        }
    ),
    GpuState.DEAD: frozenset({GpuState.STARTING, GpuState.DEFUNCT, GpuState.STOPPED}),
    GpuState.DEFUNCT: frozenset({GpuState.READY, GpuState.STOPPED}),
    GpuState.STOPPED: frozenset(),
}

DEATHS = {Parting.DIED, Parting.HUNG}
REPLACING = {GpuState.DEAD, GpuState.STARTING, GpuState.LOADING}


class GpuStartError(Exception):
    """The model cannot be loaded; the message is a sentence with the remedy."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class GpuDefunctError(Exception):
    """The GPU is broken for good as far as we can see; somebody else may restart more than us."""


class GpuProcess:
    """One child at a time, replaced when it dies; draws one picture at a time, in turn.

    Every change is made where its cause is heard, without a pause between the two: in the reader
    of the child's socket, in a call of `generate`, or by the supervisor after a child's end.
    """

    def __init__(
        self, load: Load, limits: GpuLimits, on_change: Callable[[str], None] = lambda _: None
    ) -> None:
        self._load = load
        self._limits = limits
        self._on_change = on_change
        self._line: deque[Picture] = deque()
        self._child: Child | None = None
        self._breaker = Breaker()
        self._failed_starts = 0
        self._largest = 0
        """Pixels of the largest picture that was drawn."""
        self._moved = asyncio.Event()
        self.state = GpuState.STARTING
        self.ready: Ready | None = None
        self.restarts: Counter[str] = Counter()
        """Replacements by reason, the values of Parting."""
        self.pace = Pace(limits)
        self.chart = Chart()

    @property
    def pid(self) -> int | None:
        """Of the child of the moment."""
        return self._child.pid if self._child else None

    @property
    def drawing(self) -> Picture | None:
        """The picture that the child draws."""
        child = self._child
        return child.picture if child and child.parting is None else None

    def picture_of(self, job_id: str) -> Picture | None:
        """Return a job's picture that is drawn, or waits for its turn."""
        pictures = [each for each in (self.drawing, *self._line) if each is not None]
        return next((each for each in pictures if each.command.id == job_id), None)

    @property
    def watch_due(self) -> float | None:
        """When the watch over the child must have come to a verdict, by the event loop's clock."""
        return self._child.watch_due if self._child else None

    @property
    def trouble(self) -> str | None:
        """What went wrong since a picture last came out, in words; None if nothing did."""
        failure, count = self.chart.failure, self._breaker.failures
        if failure is None or count == 1:
            return failure
        return f"{count} failures in a row, the last: {failure}"

    @property
    def usable(self) -> bool:
        """Whether work may be taken: there is a child, or the first try for its successor runs."""
        if self.state in {GpuState.READY, GpuState.BUSY}:
            return True
        return self.state in REPLACING and self.ready is not None and self._failed_starts == 0

    # ------------------------------------------------------------ supervise

    async def run(self) -> None:
        """Keep a child alive until `stop`; whoever waits for a picture at the end is told so.

        Raises:
            GpuStartError: if the model cannot be loaded and no earlier child could.
            GpuDefunctError: if the GPU was taken for broken and no test picture came out in time.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                proof = tasks.create_task(self._prove())
                await self._keep_a_child()
                proof.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            if not self._stopped():
                self._move(GpuState.STOPPED)
            self._send_home()

    async def wait_ready(self) -> Ready:
        """Return what was loaded, once a child is ready to draw."""
        while self.ready is None:
            await self._moved.wait()
        return self.ready

    async def stop(self) -> None:
        """End the child; a picture in it is lost. May be called twice, or before a start."""
        if self._stopped():
            return
        self._move(GpuState.STOPPED)
        self._send_home()
        if self._child is not None:
            self._child.dismiss(Parting.STOPPED)
            await self._child.end()

    async def _keep_a_child(self) -> None:
        ears = Ears(self._tell, self._became_ready, self._turn_over, self._hangs)
        while not self._stopped():
            try:
                child = self._child = await spawn(self._load, ears, self.pace, self._limits)
            except OSError as error:  # no memory for a process, or no descriptor
                await self._after_death(Parting.DIED, f"no GPU process can be had: {error}")
            else:
                await self._live(child)

    async def _live(self, child: Child) -> None:
        """See a child through its life."""
        if self._stopped():  # while it was spawned
            child.dismiss(Parting.STOPPED)
        else:
            self._move_child(GpuState.LOADING)
        parting = await child.serve()
        if self._stopped():
            return
        if parting in DEATHS:
            _give_up_on_model(child.load_failed, loaded_before=self.ready is not None)
            await self._after_death(parting, child.last_words, child)
        else:
            self.restarts[parting] += 1

    async def _after_death(
        self, reason: Parting, note: str, child: Child | None = None
    ) -> None:
        """Count a death, or a start that failed, and wait before the next start."""
        if self._stopped():
            return
        self.restarts[reason] += 1
        self._failed_starts = 0 if child and child.loaded else self._failed_starts + 1
        # Counted first: who looks on hearing of the death is told of it.
        self._count_failure(child.culprit if child else NOBODY, note)
        self._move_child(GpuState.DEAD, note)
        self._judge()
        wait_s = BACKOFF_S[min(self._breaker.failures, len(BACKOFF_S)) - 1]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._until(self._stopped)
        if self.state is GpuState.DEAD:
            self._move(GpuState.STARTING)

    def _became_ready(self, ready: Ready) -> None:
        if self._stopped():
            return  # its last words, read after a stop
        self.ready = ready
        self.chart.renewed(ready.memory)
        self._failed_starts = 0
        self._move_child(GpuState.READY, f"{ready.model} is loaded on {ready.device_name}")
        self._draw_next()

    def _hangs(self, hang: Hang) -> None:
        """Tell at once; the end of the child, which is waited for, comes seconds later."""
        self.chart.hung(hang)
        self._tell(hang.sentence)

    def _send_home(self) -> None:
        """Tell those who wait that nothing will come any more."""
        while self._line:
            self._line.popleft().settle(DrawingStoppedError("the GPU process was stopped"))

    # ------------------------------------------------------------ draw

    async def generate(
        self,
        command: Generate,
        on_step: OnStep,
        stop: asyncio.Event,
        on_start: Callable[[], None] = lambda: None,
    ) -> Frame:
        """Draw a picture when its turn comes; `stop` ends the wait, or the picture at its next step.

        `on_start` is called when the child gets the picture. Pictures are drawn in the order of
        the calls.

        Raises:
            GpuError: in one of its forms.
        """
        if self._stopped() or stop.is_set():
            raise DrawingStoppedError("stopped before its turn came")
        loop = asyncio.get_running_loop()
        picture = Picture(command, on_step, on_start, loop.create_future(), asked=loop.time())
        stopper = loop.create_task(stop.wait())
        stopper.add_done_callback(lambda _: self._call_off(picture))
        self._line.append(picture)
        self._draw_next()
        try:
            return await picture.frame
        finally:
            stopper.cancel()
            self._call_off(picture)

    def _draw_next(self) -> None:
        child = self._child
        if self.state is GpuState.READY and self._line and child is not None and child.free:
            self._move(GpuState.BUSY)
            child.submit(self._line.popleft())

    def _call_off(self, picture: Picture) -> None:
        """Give up a picture that nobody wants: by its stop, or because its caller was cancelled."""
        if picture.frame.done() and not picture.frame.cancelled():
            return
        if picture in self._line:
            self._line.remove(picture)
            picture.settle(DrawingStoppedError("stopped before its turn came"))
        elif self._child is not None:
            self._child.call_off(picture)

    def _turn_over(self, picture: Picture, outcome: Done | Stopped | Failed) -> None:
        """Let the next picture have its turn, unless this one's end says otherwise."""
        if self._stopped():
            return
        match outcome:
            case Done():
                self._breaker = self._breaker.success()
                self.chart.failure = None
                self.chart.told(outcome.memory)
                self._largest = max(self._largest, _pixels(picture.command))
            case Failed(code=code) if self._breaker.open or self._to_blame(picture, code):
                # Not its message: that may be of the prompt, and this is shown to everybody.
                what = f"the picture of job {picture.command.id} failed with {code}"
                self._count_failure(picture.command.id, what)
                self._judge()
        if self._breaker.open:
            return
        if isinstance(outcome, Done) and self._worn(outcome):
            self._recycle()
        else:
            self._move(GpuState.READY)
            self._draw_next()

    def _to_blame(self, picture: Picture, code: str) -> bool:
        """Whether a failure speaks against the GPU, and not for a request that asks for too much."""
        if code == OUT_OF_MEMORY and self._largest:
            return _pixels(picture.command) <= self._largest
        return code not in NOT_THE_GPUS_DOING

    # ------------------------------------------------------------ wear

    def _worn(self, done: Done) -> bool:
        allowed = self._limits.recycle_bytes
        return bool(allowed and self._child and self._child.wear.growth(done.memory) > allowed)

    def _recycle(self) -> None:
        self._move(
            GpuState.STARTING, "the memory of the GPU process has grown: a fresh one comes"
        )
        if self._child is not None:
            self._child.dismiss(Parting.RECYCLED)

    # ------------------------------------------------------------ break and prove

    def _count_failure(self, culprit: str | None, what: str) -> None:
        self._breaker = self._breaker.failure(culprit, asyncio.get_running_loop().time())
        self.chart.failure = what

    def _judge(self) -> None:
        """Take the GPU for broken if there was one failure too many."""
        if not self._breaker.open:
            return
        if self.state is not GpuState.DEFUNCT:
            self._move(GpuState.DEFUNCT, f"{self._breaker.failures} failures without a picture")
        if self._child is not None:
            self._child.dismiss(Parting.DEFUNCT)

    async def _prove(self) -> None:
        """While the GPU is taken for broken, try it from time to time."""
        while True:
            await self._until(lambda: self._breaker.open)
            try:
                async with asyncio.timeout_at(self._breaker.exit_at(self._limits)):
                    while self._breaker.open:
                        await self._draw_canary()
            except TimeoutError:
                raise GpuDefunctError(
                    f"The GPU failed {self._breaker.failures} times in a row, and no test picture "
                    f"came out within {self._limits.defunct_exit_s:g} s."
                ) from None

    async def _draw_canary(self) -> None:
        """Draw a picture of our own when it is due; its turn's end does the rest."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._breaker.canary_at(self._limits) - loop.time())
        await self.wait_ready()
        child = await self._free_child()
        frame: asyncio.Future[Frame] = loop.create_future()
        canary = Picture(CANARY, _unheard, _unheard, frame, asked=loop.time())
        child.submit(canary)
        with contextlib.suppress(GpuError):
            await canary.frame

    async def _free_child(self) -> Child:
        while self._child is None or not self._child.free:
            await self._moved.wait()
        return self._child

    # ------------------------------------------------------------ move

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._moved.wait()

    def _stopped(self) -> bool:
        return self.state is GpuState.STOPPED

    def _move_child(self, to: GpuState, note: str = "") -> None:
        """Follow the child, unless its GPU is taken for broken: then only a picture counts."""
        if self.state is GpuState.DEFUNCT:
            self._tell(note)
        else:
            self._move(to, note)

    def _move(self, to: GpuState, note: str = "") -> None:
        if to not in TRANSITIONS[self.state]:
            raise RuntimeError(f"GPU process: {self.state} -> {to} is no legal move")
        self.state = to
        self._tell(note)

    def _tell(self, note: str) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self._on_change(note)


def _give_up_on_model(failed: LoadFailed | None, *, loaded_before: bool) -> None:
    """Raise GpuStartError where no child could load it yet; later it is one more death."""
    if failed is not None and not loaded_before:
        raise GpuStartError(failed.message, permanent=failed.permanent)


def _pixels(command: Generate) -> int:
    return command.width * command.height


def _unheard(*_: object) -> None:
    pass
