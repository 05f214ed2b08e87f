"""The GPU process: the parent's handle on the child that draws. Watches, kills and replaces it."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from consumer.gpu.protocol import (
    PREFIX_BYTES,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Message,
    ProtocolError,
    Ready,
    Step,
    Stopped,
    decode,
    encode,
    lengths,
)

T = TypeVar("T")

RECEIVE_BYTES = 1 << 18
HANDOVER_ROUNDS = 16
"""Rounds of the event loop between the news that a picture is drawn and the receipt of its pixels.

More than it takes until the next picture is asked for: the GPU would wait for 3 MB otherwise.
"""
LEAVE_GRACE_S = 0.5
TERMINATE_GRACE_S = 5.0
BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before a replacement, by deaths in a row since the last picture."""
DEFUNCT_AFTER = 5
"""Deaths in a row after which we say that the GPU is broken; we keep trying."""

CPU_ENVIRONMENT = {
    # glibc gives a 2 MB buffer back to the kernel and faults it in again, at every layer.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
}


class GpuState(StrEnum):
    """Where the child stands."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    DEAD = "dead"
    DEFUNCT = "defunct"
    STOPPED = "stopped"


TRANSITIONS: dict[GpuState, frozenset[GpuState]] = {
    GpuState.STARTING: frozenset({GpuState.LOADING, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.LOADING: frozenset(
        {GpuState.LOADING, GpuState.READY, GpuState.DEAD, GpuState.STOPPED}
    ),
    GpuState.READY: frozenset({GpuState.BUSY, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.BUSY: frozenset({GpuState.READY, GpuState.DEAD, GpuState.STOPPED}),
    GpuState.DEAD: frozenset({GpuState.STARTING, GpuState.DEFUNCT, GpuState.STOPPED}),
    GpuState.DEFUNCT: frozenset({GpuState.STARTING, GpuState.STOPPED}),
    GpuState.STOPPED: frozenset(),
}


class GpuError(Exception):
    """A picture cannot be had from the child."""


class GpuDiedError(GpuError):
    """The child died with the picture in it."""


class GpuTimeoutError(GpuError):
    """The child did not finish within the hard limit and was killed."""


class DrawingStoppedError(GpuError):
    """The picture was stopped as asked."""


class DrawingFailedError(GpuError):
    """The child says why there is no picture; it goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class GpuStartError(Exception):
    """The model cannot be loaded; the message is a sentence with the remedy."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture as it came from the child: `pixels` is H x W x 3, uint8 sRGB, row by row."""

    pixels: bytearray
    width: int
    height: int
    forwards: int
    seconds: dict[str, float]
    memory: dict[str, int]
    started: float
    """Monotonic seconds at which its turn on the GPU began."""


OnStep = Callable[[int, int], None]


class GpuProcess:
    """One child at a time, replaced when it dies; draws one picture at a time, in turn."""

    def __init__(
        self,
        load: Load,
        *,
        job_timeout_s: float,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._load = load
        self._job_timeout_s = job_timeout_s
        self._on_change = on_change
        self._turn = asyncio.Lock()
        self._child: _Child | None = None
        self._available = asyncio.Event()
        self._deaths_in_a_row = 0
        self.state = GpuState.STARTING
        self.ready: Ready | None = None
        self.restarts = 0

    # ------------------------------------------------------------ supervise

    async def run(self) -> None:
        """Keep a child alive until `stop`.

        Raises:
            GpuStartError: if the model cannot be loaded and no earlier child could.
        """
        while not self._stopped():
            child = self._child = await _Child.spawn(self._load)
            try:
                if self._stopped():  # while it was spawned
                    await child.end()
                else:
                    self._move(GpuState.LOADING)
                await child.serve(self._on_change, self._became_ready)
            finally:
                self._available.clear()
                await child.end()
            if not self._stopped():
                await self._after_death(child)

    async def wait_ready(self) -> Ready:
        """Return what was loaded, once a child is ready to draw."""
        while self.ready is None:
            await self._available.wait()
        return self.ready

    async def stop(self) -> None:
        """End the child; a picture in it is lost. May be called twice, or before a start."""
        if self._stopped():
            return
        self._move(GpuState.STOPPED)
        if self._child is not None:
            await self._child.end()

    @property
    def pid(self) -> int | None:
        """Of the child of the moment."""
        return self._child.pid if self._child else None

    async def _after_death(self, child: "_Child") -> None:
        self._move(GpuState.DEAD, f"the GPU process ended with code {child.exit_code}")
        if child.load_failed and (child.load_failed.permanent or self.ready is None):
            raise GpuStartError(
                child.load_failed.message, permanent=child.load_failed.permanent
            )
        self.restarts += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= DEFUNCT_AFTER:
            self._move(GpuState.DEFUNCT, f"{self._deaths_in_a_row} deaths without a picture")
        await asyncio.sleep(BACKOFF_S[min(self._deaths_in_a_row - 1, len(BACKOFF_S) - 1)])
        if not self._stopped():
            self._move(GpuState.STARTING)

    def _stopped(self) -> bool:
        return self.state is GpuState.STOPPED

    def _became_ready(self, ready: Ready) -> None:
        if self._stopped():
            return  # its last words, read after a stop
        self.ready = ready
        self._move(GpuState.READY, f"{ready.model} is loaded on {ready.device_name}")
        self._available.set()

    def _move(self, to: GpuState, note: str = "") -> None:
        if to not in TRANSITIONS[self.state]:
            raise RuntimeError(f"GPU process: {self.state} -> {to} is no legal move")
        self.state = to
        self._on_change(note)

    # ------------------------------------------------------------ draw

    async def generate(self, command: Generate, on_step: OnStep, stop: asyncio.Event) -> Frame:
        """Draw a picture when its turn comes; `stop` ends the wait, or the picture at its next step.

        Raises:
            GpuError: in one of its forms.
        """
        await _unless(stop, self._turn.acquire())
        try:
            await _unless(stop, self._available.wait())
            child = self._child
            if child is None:
                raise GpuDiedError("there is no GPU process")
            self._move(GpuState.BUSY)
            picture = child.submit(command, on_step)
            await self._within_limit(child, _drawn(child, picture, stop))
        finally:
            if self.state is GpuState.BUSY and self._available.is_set():
                self._move(GpuState.READY)
            self._turn.release()
        # Its pixels take milliseconds to arrive; the next picture is begun meanwhile.
        frame = await self._within_limit(child, picture.frame)
        self._deaths_in_a_row = 0
        return frame

    async def _within_limit(self, child: "_Child", work: Awaitable[T]) -> T:
        """Await `work` of this child, and end the child if it takes too long."""
        try:
            async with asyncio.timeout(self._job_timeout_s):
                return await work
        except TimeoutError:
            # It may hang in a kernel: only its end frees the GPU.
            self._available.clear()
            await child.end()
            raise GpuTimeoutError(f"no picture within {self._job_timeout_s:g} s") from None


async def _drawn(child: "_Child", picture: "_Picture", stop: asyncio.Event) -> None:
    """Return once the child is done with a picture, however it went; with `stop`, call it off."""
    try:
        await _unless(stop, picture.turn_over.wait())
    except DrawingStoppedError:
        child.send(Cancel(picture.id))
        await picture.frame
        raise


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T:
    """Await `work`. Raises DrawingStoppedError, and gives it up, if `stop` is set first."""
    loop = asyncio.get_running_loop()
    stopper = loop.create_task(stop.wait())
    worker = asyncio.ensure_future(work)
    try:
        await asyncio.wait({worker, stopper}, return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            return worker.result()
        raise DrawingStoppedError
    finally:
        stopper.cancel()
        worker.cancel()


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture in hand."""

    id: str
    on_step: OnStep
    started: float
    turn_over: asyncio.Event
    """The child is done with it; only its pixels may be still on their way."""
    frame: asyncio.Future[Frame]


class _Child:
    """One child process, from its spawn to its end."""

    def __init__(self, process: Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._picture: _Picture | None = None
        self._arriving: _Picture | None = None
        self.load_failed: LoadFailed | None = None

    @classmethod
    async def spawn(cls, load: Load) -> "_Child":
        """Start a child and tell it what to load."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "consumer.gpu.worker",
                "--fd",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=_environment(load),
            )
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        child = cls(process, ours)
        child.send(load)
        return child

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def serve(
        self, on_note: Callable[[str], None], on_ready: Callable[[Ready], None]
    ) -> None:
        """Read what the child says until it is gone."""
        try:
            while True:
                message, payload = await self._receive()
                match message:
                    case Loading(note=note):
                        on_note(note)
                    case Ready() as ready:
                        on_ready(ready)
                    case LoadFailed() as failed:
                        self.load_failed = failed
                    case other:
                        self._hear(other, payload)
        except (EOFError, OSError, ProtocolError):
            await self.end()
            died = GpuDiedError(f"the GPU process ended with code {self.exit_code}")
            for picture in (self._arriving, self._picture):
                _settle(picture, died)
        finally:
            self._connection.close()

    def submit(self, command: Generate, on_step: OnStep) -> _Picture:
        """Ask for a picture; its future has it, or why there is none."""
        self._picture = _Picture(
            command.id,
            on_step,
            time.monotonic(),
            asyncio.Event(),
            asyncio.get_running_loop().create_future(),
        )
        self.send(command)
        return self._picture

    def send(self, message: Message) -> None:
        """Send a message; one to a child that is gone is lost, and `serve` tells.

        A child reads its inbox at all times, and what we have to say is short: where it does not
        fit into the kernel's buffer, the child is broken.
        """
        frame = encode(message)
        with contextlib.suppress(OSError):
            if self._connection.send(frame) == len(frame):
                return
        self._hang_up()

    async def end(self) -> None:
        """See the child out. It leaves when we hang up; else SIGTERM, and at last SIGKILL.

        The first wait also leaves a child that died by itself to asyncio: `terminate` would reap
        it first, and its exit code would be lost.
        """
        self._hang_up()
        if await self._gone_within(LEAVE_GRACE_S):
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
            if not await self._gone_within(TERMINATE_GRACE_S):
                self._process.kill()
        await self._process.wait()

    async def _gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        return self._process.returncode is not None

    def _hang_up(self) -> None:
        """Let `serve` see the end, as the child does."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    async def _receive(self) -> tuple[Message, bytearray]:
        header, payload = lengths(await self._exactly(PREFIX_BYTES))
        message = decode(await self._exactly(header))
        if isinstance(message, Done):
            self._end_turn(message)
            for _ in range(HANDOVER_ROUNDS):
                await asyncio.sleep(0)
        return message, await self._exactly(payload)

    async def _exactly(self, count: int) -> bytearray:
        """Receive into a buffer that stays: a StreamReader moves 3 MB thrice, on the event loop."""
        loop = asyncio.get_running_loop()
        buffer = bytearray(count)
        missing = memoryview(buffer)
        while missing:
            received = await loop.sock_recv_into(self._connection, missing[:RECEIVE_BYTES])
            if not received:
                raise EOFError
            missing = missing[received:]
            # What is there already is received without a pause: let the others have theirs.
            await asyncio.sleep(0)
        return buffer

    def _end_turn(self, done: Done) -> None:
        """Let the next picture be asked for before the pixels of this one are read."""
        if self._picture is not None and self._picture.id == done.id:
            self._arriving, self._picture = self._picture, None
            self._arriving.turn_over.set()

    def _hear(self, message: Message, payload: bytearray) -> None:
        """Take news of a picture in hand; news of another is of one that was given up."""
        picture = self._arriving if isinstance(message, Done) else self._picture
        if picture is None or getattr(message, "id", None) != picture.id:
            return
        match message:
            case Step(step=step, steps=steps):
                picture.on_step(step, steps)
                return
            case Done() as done:
                self._arriving = None
                _settle(picture, _frame(done, payload, picture.started))
            case Stopped(step=step):
                _settle(picture, DrawingStoppedError(f"stopped after step {step}"))
            case Failed(code=code, message=text):
                _settle(picture, DrawingFailedError(code, text))
            case other:
                raise ProtocolError(f"{type(other).__name__} is not for a parent")


def _frame(done: Done, pixels: bytearray, started: float) -> Frame:
    return Frame(
        pixels, done.width, done.height, done.forwards, done.seconds, done.memory, started
    )


def _settle(picture: _Picture | None, result: Frame | GpuError) -> None:
    """Give a picture its end; the first one counts."""
    if picture is None or picture.frame.done():
        return
    if isinstance(result, Frame):
        picture.frame.set_result(result)
    else:
        picture.frame.set_exception(result)
    picture.turn_over.set()


def _environment(load: Load) -> dict[str, str]:
    on_cpu = load.device == "cpu" or load.model == "builtin"
    return {**(CPU_ENVIRONMENT if on_cpu else {}), **os.environ}
