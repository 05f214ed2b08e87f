"""The stage: an event loop on a clock of its own, an actor in the child's place, and callers."""

import asyncio
import contextlib
import selectors
import signal

from consumer.gpu.process import DrawingStoppedError, Frame, GpuError
from consumer.gpu.protocol import (
    PREFIX_BYTES,
    Begun,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Step,
    Stopped,
    decode,
    encode,
    lengths,
)
from tests.pipelines import ready

ROUNDS = 40
"""Of the event loop after each move: more than any chain of wake-ups in the code is long."""
FORWARDS = 3


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time passes when it is told to."""

    def __init__(self):
        super().__init__(selectors.DefaultSelector())
        self.now = 1000.0

    def time(self):
        return self.now

    def settle(self):
        """Run until there is nothing more to do at this moment."""
        self.run_until_complete(self._rounds())

    async def _rounds(self):
        for _ in range(ROUNDS):
            await asyncio.sleep(0)


class Actor:
    """Stands for the child and for its process: says what it is told to say, dies as it is told."""

    def __init__(self, connection, manners):
        self._connection = connection
        self._connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._manners = manners
        self._gone = asyncio.Event()
        self._unread = b""
        self.pid = id(self)
        self.returncode = None
        self.command = None
        self.wanted = None
        self.cancelled = False
        self.begun = False
        self.steps = 0
        self.loaded = False

    # what asyncio's Process is asked for

    async def wait(self):
        await self._gone.wait()

    def terminate(self):
        if self._manners in {"leaves", "terminates"}:
            self.die(-signal.SIGTERM)

    def kill(self):
        if self._manners != "undead":
            self.die(-signal.SIGKILL)

    # what the child does

    @property
    def alive(self):
        return self.returncode is None

    def die(self, code):
        if self.alive:
            self.returncode = code
            self._connection.close()
            self._gone.set()

    def say(self, message, payload=b""):
        with contextlib.suppress(OSError):
            self._connection.sendall(encode(message, len(payload)) + payload)

    def noise(self, data):
        with contextlib.suppress(OSError):
            self._connection.sendall(data)

    def listen(self):
        """Read what there is of the parent's words; leave at their end, unless frozen."""
        while self.alive:
            try:
                data = self._connection.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                if self._manners == "leaves":
                    self.die(0)
                return
            self._unread += data
            self._sort()

    def _sort(self):
        while len(self._unread) >= PREFIX_BYTES:
            header, payload = lengths(self._unread[:PREFIX_BYTES])
            end = PREFIX_BYTES + header + payload
            if len(self._unread) < end:
                return
            self._take(decode(self._unread[PREFIX_BYTES : PREFIX_BYTES + header]))
            self._unread = self._unread[end:]

    def _take(self, message):
        match message:
            case Load():
                self.command = message
            case Generate():
                assert self.wanted is None, "two pictures at a time in one child"
                assert self.loaded, "a picture for a child that has not loaded"
                self.wanted, self.cancelled, self.begun, self.steps = message, False, False, 0
            case Cancel(id=job_id):
                if self.wanted is not None and self.wanted.id == job_id:
                    self.cancelled = True

    # what a picture goes through

    def act(self):
        """Do the next thing that a healthy child does."""
        if not self.alive or self.command is None:
            return
        if not self.loaded:
            self.loaded = True
            self.say(ready(self.command))
        elif self.wanted is not None:
            self._draw_on()

    def _draw_on(self):
        wanted = self.wanted
        if not self.begun:
            self.begun = True
            self.say(Begun(wanted.id, "text_encode"))
        elif self.cancelled:
            self._end(Stopped(wanted.id, self.steps))
        elif self.steps < wanted.forwards:
            self.steps += 1
            self.say(Step(wanted.id, self.steps, wanted.forwards))
            if self.steps == wanted.forwards:
                self.say(Begun(wanted.id, "vae_decode"))
        else:
            self.finish(0)

    def finish(self, resident):
        """Be done with the picture, holding this much memory."""
        wanted = self.wanted
        memory = {"resident": resident}
        done = Done(wanted.id, wanted.width, wanted.height, wanted.forwards, {}, memory)
        self._end(done, bytes(wanted.width * wanted.height * 3))

    def fail(self, code):
        self._end(Failed(self.wanted.id, code, f"acted {code}"))

    def _end(self, message, payload=b""):
        self.wanted = None
        self.say(message, payload)


class Asked:
    """One call of `generate`, and what became of it."""

    def __init__(self, gpu, loop, job_id):
        self.starts = 0
        self.abandoned = False
        self.stop = asyncio.Event()
        command = Generate(job_id, "x", 4, 4, 1, FORWARDS, 0.0)
        self.task = loop.create_task(
            gpu.generate(command, lambda *_: None, self.stop, self._started)
        )

    def _started(self):
        self.starts += 1

    def check(self):
        """It ended with a picture, or with one error of ours, or because we cancelled it."""
        assert self.starts <= 1
        if not self.task.done():
            return
        if self.task.cancelled():
            assert self.abandoned
        elif (error := self.task.exception()) is None:
            assert self.starts == 1
            assert isinstance(self.task.result(), Frame)
        else:
            assert isinstance(error, GpuError)
            assert isinstance(error, DrawingStoppedError) or self.starts == 1
            assert self.starts or error.gpu_seconds == 0.0
