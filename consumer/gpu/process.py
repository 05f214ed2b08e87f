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

READ_LIMIT_BYTES = 16 << 20
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

    pixels: bytes
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
        while not self._stopped:
            child = self._child = await _Child.spawn(self._load)
            self._move(GpuState.LOADING)
            try:
                await child.serve(self._on_change, self._became_ready)
            finally:
                self._available.clear()
                await child.end()
            if not self._stopped:
                await self._after_death(child)

    async def wait_ready(self) -> Ready:
        """Return what was loaded, once a child is ready to draw."""
        while self.ready is None:
            await self._available.wait()
        return self.ready

    async def stop(self) -> None:
        """End the child; a picture in it is lost. May be called twice, or before a start."""
        if self._stopped:
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
        if not self._stopped:
            self._move(GpuState.STARTING)

    @property
    def _stopped(self) -> bool:
        return self.state is GpuState.STOPPED

    def _became_ready(self, ready: Ready) -> None:
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
            frame = await self._draw(child, command, on_step, stop)
            self._deaths_in_a_row = 0
            return frame
        finally:
            if self.state is GpuState.BUSY and self._available.is_set():
                self._move(GpuState.READY)
            self._turn.release()

    async def _draw(
        self, child: "_Child", command: Generate, on_step: OnStep, stop: asyncio.Event
    ) -> Frame:
        picture = child.submit(command, on_step)
        try:
            async with asyncio.timeout(self._job_timeout_s):
                try:
                    return await _unless(stop, asyncio.shield(picture))
                except DrawingStoppedError:
                    child.send(Cancel(command.id))
                    await picture
                    raise
        except TimeoutError:
            # It may hang in a kernel: only its end frees the GPU.
            self._available.clear()
            await child.end()
            raise GpuTimeoutError(f"no picture within {self._job_timeout_s:g} s") from None


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
    """The picture in hand."""

    id: str
    future: asyncio.Future[Frame]
    on_step: OnStep
    started: float


class _Child:
    """One child process, from its spawn to its end."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._picture: _Picture | None = None
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
        reader, writer = await asyncio.open_connection(sock=ours, limit=READ_LIMIT_BYTES)
        child = cls(process, reader, writer)
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
        except (asyncio.IncompleteReadError, ConnectionError, ProtocolError):
            await self.end()
            self._settle(GpuDiedError(f"the GPU process ended with code {self.exit_code}"))

    def submit(self, command: Generate, on_step: OnStep) -> "asyncio.Future[Frame]":
        """Ask for a picture; the future has it, or why there is none."""
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._picture = _Picture(command.id, future, on_step, time.monotonic())
        self.send(command)
        return future

    def send(self, message: Message) -> None:
        """Send a message; one to a child that is gone is lost, and `serve` tells."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def end(self) -> None:
        """See the child out: SIGTERM, and SIGKILL where that is not enough."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
            try:
                async with asyncio.timeout(TERMINATE_GRACE_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()

    async def _receive(self) -> tuple[Message, bytes]:
        header, payload = lengths(await self._reader.readexactly(PREFIX_BYTES))
        message = decode(await self._reader.readexactly(header))
        return message, await self._reader.readexactly(payload) if payload else b""

    def _hear(self, message: Message, payload: bytes) -> None:
        """Take news of the picture in hand; news of another is of one that was given up."""
        if self._picture is None or getattr(message, "id", None) != self._picture.id:
            return
        match message:
            case Step(step=step, steps=steps):
                self._picture.on_step(step, steps)
            case Done() as done:
                self._settle(
                    Frame(
                        payload,
                        done.width,
                        done.height,
                        done.forwards,
                        done.seconds,
                        done.memory,
                        self._picture.started,
                    )
                )
            case Stopped(step=step):
                self._settle(DrawingStoppedError(f"stopped after step {step}"))
            case Failed(code=code, message=text):
                self._settle(DrawingFailedError(code, text))
            case other:
                raise ProtocolError(f"{type(other).__name__} is not for a parent")

    def _settle(self, result: Frame | GpuError) -> None:
        if self._picture is None:
            return
        future = self._picture.future
        self._picture = None
        if future.done():
            return
        if isinstance(result, Frame):
            future.set_result(result)
        else:
            future.set_exception(result)


def _environment(load: Load) -> dict[str, str]:
    on_cpu = load.device == "cpu" or load.model == "builtin"
    return {**(CPU_ENVIRONMENT if on_cpu else {}), **os.environ}
