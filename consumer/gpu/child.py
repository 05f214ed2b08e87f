"""The GPU child as its parent holds it: one process from its spawn to its end, and what it says."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from consumer.gpu.chart import Hang
from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.picture import (
    DrawingFailedError,
    DrawingStoppedError,
    Frame,
    GpuDiedError,
    GpuError,
    GpuTimeoutError,
    Picture,
)
from consumer.gpu.protocol import (
    PREFIX_BYTES,
    Begun,
    Cancel,
    Done,
    Failed,
    Load,
    LoadFailed,
    Loading,
    Message,
    ProtocolError,
    Ready,
    Stage,
    Step,
    Stopped,
    decode,
    encode,
    lengths,
)
from consumer.gpu.watch import Watch
from consumer.gpu.wear import Wear

RECEIVE_BYTES = 1 << 18
LEAVE_GRACE_S = 0.5
TERMINATE_GRACE_S = 5.0
KILL_GRACE_S = 10.0
"""A process that hangs in its driver survives even SIGKILL; we do not wait for it for ever."""

CPU_ENVIRONMENT = {
    # glibc gives a 2 MB buffer back to the kernel and faults it in again, at every layer.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
}


class Parting(StrEnum):
    """Why a child goes."""

    DIED = "died"
    """It went by itself, or was killed by somebody else."""
    HUNG = "hung"
    RECYCLED = "recycled"
    """Its memory had grown; nothing is wrong."""
    DEFUNCT = "defunct"
    """The GPU is taken for broken: a fresh child may see it otherwise."""
    STOPPED = "stopped"


PATIENT = {Parting.RECYCLED, Parting.DEFUNCT}
"""Partings that let pixels arrive which are on their way."""


@dataclass(frozen=True, slots=True)
class Ears:
    """Whom a child's news reaches. Called by the reader of its socket: nothing in between."""

    on_note: Callable[[str], None]
    on_ready: Callable[[Ready], None]
    on_turn_over: Callable[[Picture, Done | Stopped | Failed], None]
    """The child is free for the next picture; the pixels of this one may be still on their way."""
    on_hang: Callable[[Hang], None] = lambda _: None


class Child:
    """One child process: loads, then draws one picture at a time."""

    def __init__(
        self,
        process: Process,
        connection: socket.socket,
        ears: Ears,
        pace: Pace,
        limits: GpuLimits,
    ) -> None:
        self._process = process
        self._connection = connection
        self._ears = ears
        self._pace = pace
        self._watch = Watch(pace, limits, self._hangs)
        self._arriving: Picture | None = None
        self._note = ""
        self._started = _now()
        self.picture: Picture | None = None
        """The one it draws."""
        self.parting: Parting | None = None
        self.loaded = False
        self.load_failed: LoadFailed | None = None
        self.wear = Wear()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def free(self) -> bool:
        """Whether it may be asked for a picture."""
        return self.loaded and self.parting is None and self.picture is None

    @property
    def culprit(self) -> str | None:
        """The job whose picture it has, or had at its end."""
        picture = self.picture or self._arriving
        return None if picture is None else picture.command.id

    @property
    def watch_due(self) -> float | None:
        """When the watch over it must have come to a verdict; None while there is none to come."""
        return self._watch.due

    @property
    def last_words(self) -> str:
        """How it ended: a sentence. A negative code is the signal that ended it."""
        if self.load_failed is not None:
            # It said itself why it goes; its exit code tells nothing.
            return f"the GPU process does not load: {self.load_failed.message.rstrip('.')}"
        ended = f"the GPU process ended with code {self._process.returncode}"
        return f"{self._note}: {ended}" if self._note else ended

    # ------------------------------------------------------------ serve

    async def serve(self) -> Parting:
        """Read what the child says until it is gone, see it out, and settle what it had.

        Returns why it went.
        """
        self._watch.loading(self._started)
        try:
            while not (self.parting and self._arriving is None):
                message, payload = await self._receive()
                if isinstance(message, Ready):
                    self._pace.learn_load(_now() - self._started)
                self._take(message, payload)
        except (EOFError, OSError):
            pass
        except ProtocolError as error:
            self._note = str(error)
        except asyncio.CancelledError:
            self.parting = Parting.STOPPED
            raise
        finally:
            self._watch.rest()
            self.parting = self.parting or Parting.DIED
            try:
                await self.end()
            finally:
                self._bury()
        return self.parting

    def dismiss(self, parting: Parting, note: str = "") -> None:
        """Have `serve` come to its end; pixels under way still arrive where nothing is wrong."""
        if self.parting is None:
            self.parting, self._note = parting, note
        if self._arriving is None or self.parting not in PATIENT:
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
            if await self._gone_within(TERMINATE_GRACE_S):
                return
            self._process.kill()
        await self._gone_within(KILL_GRACE_S)

    async def _gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        return self._process.returncode is not None

    def _hangs(self, note: str) -> None:
        """Only its end frees the GPU: it may hang in a kernel."""
        hang = self._hang(note)
        self.parting, self._note = Parting.HUNG, hang.note
        self._hang_up()
        self._ears.on_hang(hang)

    def _hang(self, note: str) -> Hang:
        late, picture, now = self._arriving, self.picture, _now()
        if late is not None:
            # It speaks in turn: as long as these pixels are on their way, nothing of the next
            # picture can be heard.
            note = f"its pixels did not arrive within {now - late.ended:.0f} s"
            return Hang(late.command.id, "handover", late.ended, now, note)
        if picture is None:
            return Hang(None, "load", self._started, now, note)
        return Hang(picture.command.id, picture.stage, picture.stage_since, now, note)

    def _hang_up(self) -> None:
        """Let `serve` see the end, as the child does."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _bury(self) -> None:
        """Give what it had in hand its end."""
        self._connection.close()
        for picture in (self._arriving, self.picture):
            if picture is not None:
                picture.fail(self._loss(), _now())

    def _loss(self) -> GpuError:
        match self.parting:
            case Parting.HUNG:
                return GpuTimeoutError(self._note)
            case Parting.STOPPED:
                return DrawingStoppedError("the GPU process was stopped")
            case _:
                return GpuDiedError(self.last_words)

    # ------------------------------------------------------------ speak

    def submit(self, picture: Picture) -> None:
        """Have a picture drawn; only a free child takes one."""
        if not self.free:
            raise RuntimeError("a child draws one picture at a time")
        self.picture = picture
        picture.start(_now())
        self.send(picture.command)
        self._look_after()
        picture.on_start()

    def call_off(self, picture: Picture) -> None:
        """Have the picture stopped at its next step, if it is the one that is drawn."""
        if picture is self.picture and not picture.called_off:
            picture.called_off = True
            self.send(Cancel(picture.command.id))

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

    # ------------------------------------------------------------ hear

    async def _receive(self) -> tuple[Message, bytearray]:
        header, payload = lengths(await self._exactly(PREFIX_BYTES))
        message = decode(await self._exactly(header))
        if isinstance(message, Done):
            # Before the pixels are read, which takes milliseconds: the GPU need not wait for them.
            self._end_turn(message)
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

    def _take(self, message: Message, payload: bytearray) -> None:
        match message:
            case Loading(note=note):
                self._ears.on_note(note)
            case Ready():
                self._watch.rest()
                self.loaded = True
                self._ears.on_ready(message)
            case LoadFailed():
                self.load_failed = message
            case Done():
                self._arrived(message, payload)
            case Begun() | Step():
                self._goes_on(message)
            case Stopped() | Failed():
                self._end_turn(message)
            case _:
                raise ProtocolError(f"{type(message).__name__} is not for a parent")

    def _goes_on(self, news: Begun | Step) -> None:
        picture, now = self._drawn(news.id), _now()
        if isinstance(news, Begun):
            picture.enter(Stage(news.stage), now)
        else:
            self._pace.learn(picture.size, picture.stage, now - picture.stage_since)
            picture.enter(Stage.DENOISE, now)
            picture.step = news.step
            picture.on_step(news.step, news.steps)
        self._look_after()

    def _end_turn(self, outcome: Done | Stopped | Failed) -> None:
        picture, now = self._drawn(outcome.id), _now()
        self.picture = None
        if isinstance(outcome, Done):
            self._pace.learn(picture.size, picture.stage, now - picture.stage_since)
            self.wear = self.wear.after(outcome.width * outcome.height, outcome.memory)
            self._arriving = picture
        picture.ended = now
        error = _told(picture, outcome)
        if error is not None:
            picture.fail(error, now)
        self._ears.on_turn_over(picture, outcome)
        self._look_after()

    def _drawn(self, job_id: str) -> Picture:
        if self.picture is None or self.picture.command.id != job_id:
            raise ProtocolError(f"news of {job_id}, which is not in hand")
        return self.picture

    def _arrived(self, done: Done, pixels: bytearray) -> None:
        picture, self._arriving = self._arriving, None
        if picture is not None:
            picture.settle(_frame(picture, done, pixels))
        self._look_after()

    def _look_after(self) -> None:
        self._watch.drawing(self.picture, self._arriving, cold=not self.wear.pictures)


async def spawn(load: Load, ears: Ears, pace: Pace, limits: GpuLimits) -> Child:
    """Start a child and tell it what to load. Raises OSError where no process can be had."""
    ours, theirs = socket.socketpair()
    try:
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
    except BaseException:  # a cancel, too
        ours.close()
        raise
    ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
    child = Child(process, ours, ears, pace, limits)
    child.send(load)
    return child


def _environment(load: Load) -> dict[str, str]:
    on_cpu = load.device == "cpu" or load.model == "builtin"
    return {**(CPU_ENVIRONMENT if on_cpu else {}), **os.environ}


def _told(picture: Picture, outcome: Done | Stopped | Failed) -> GpuError | None:
    """Return why there is no picture, by the child's own words; None if there is one."""
    match outcome:
        case Failed(code=code, message=text, frames=frames):
            return DrawingFailedError(code, text, frames)
        case Stopped(step=step):
            return DrawingStoppedError(f"stopped after step {step}")
        case Done() if picture.called_off:
            return DrawingStoppedError("stopped when it was drawn already")
        case Done():
            return None


def _frame(picture: Picture, done: Done, pixels: bytearray) -> Frame:
    return Frame(
        pixels,
        done.width,
        done.height,
        done.forwards,
        done.seconds,
        done.memory,
        picture.started,
        picture.gpu_seconds(picture.ended),
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
