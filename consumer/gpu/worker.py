"""The GPU child's main: the main thread draws, one picture at a time; two others read and send."""

import argparse
import contextlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from consumer.gpu.pipeline import (
    DeviceLostError,
    DrawError,
    Drawn,
    LoadError,
    Pipeline,
    StopDrawingError,
    checked,
    pipeline_named,
)
from consumer.gpu.protocol import (
    Begun,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Message,
    ProtocolError,
    Stage,
    Step,
    Stopped,
    encode,
    receive,
)
from consumer.gpu.warming import warm

ROCM_DEFAULTS = {
    # A first VAE decode otherwise searches kernels for minutes at every new size.
    "MIOPEN_FIND_MODE": "FAST",
    # The second picture otherwise may die of fragmentation on 16 and 24 GB cards.
    "PYTORCH_HIP_ALLOC_CONF": "garbage_collection_threshold:0.8,max_split_size_mb:512",
}
"""Safe on every ROCm card and ignored elsewhere; what the operator set stays."""


EXIT_DEVICE_LOST = 70
EXIT_PROTOCOL = 76


@dataclass(slots=True, eq=False)
class Turn:
    """A picture that was asked for."""

    command: Generate
    cancelled: threading.Event = field(default_factory=threading.Event)
    steps: int = 0
    """Done so far."""


class Worker:
    """One connection to the parent and one pipeline."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[Load | Turn] = queue.SimpleQueue()
        self._outbox: queue.Queue[bytes | memoryview] = queue.Queue()

    def run(self) -> int:
        """Serve until the parent is gone. Returns the exit code where there is nothing to serve."""
        threading.Thread(target=self._read_inbox, name="inbox", daemon=True).start()
        # 3 MB take milliseconds to send: the next picture does not wait for them.
        threading.Thread(target=self._send_outbox, name="outbox", daemon=True).start()
        pipeline: Pipeline | None = None
        while True:
            match self._inbox.get():
                case Load() as command:
                    pipeline = self._load(command)
                    if pipeline is None:
                        self._outbox.join()
                        return 1
                case Turn() as turn:
                    if pipeline is None:
                        raise ProtocolError("asked to draw before the model was loaded")
                    self._draw(pipeline, turn)

    def _read_inbox(self) -> None:
        try:
            self._sort_inbox()
        except (EOFError, OSError):
            # The parent is gone, so are we: the GPU is free for its successor at once, also from
            # a main thread that is deep in a native call.
            os._exit(0)
        except ProtocolError:
            sys.excepthook(*sys.exc_info())
            os._exit(EXIT_PROTOCOL)

    def _sort_inbox(self) -> None:
        last: Turn | None = None
        while True:
            match receive(self._connection):
                case Generate() as command:
                    last = Turn(command)
                    self._inbox.put(last)
                case Cancel(id=job_id):
                    # One that crossed the end of its picture meets no later turn of the same job.
                    if last is not None and last.command.id == job_id:
                        last.cancelled.set()
                case Load() as command:
                    self._inbox.put(command)
                case other:
                    raise ProtocolError(f"{type(other).__name__} is not for a child")

    def _load(self, command: Load) -> Pipeline | None:
        # Importing torch and diffusers takes up to half a minute on a cold disk.
        self._send(Loading(f"importing {command.pipeline}"))
        try:
            pipeline = pipeline_named(command.pipeline)
            ready = warm(pipeline, pipeline.load(command, self._note), command, self._note)
        except LoadError as error:
            self._send(LoadFailed(str(error), error.permanent))
            return None
        self._send(ready)
        return pipeline

    def _note(self, note: str) -> None:
        self._send(Loading(note))

    def _draw(self, pipeline: Pipeline, turn: Turn) -> None:
        command = turn.command
        try:
            self._begin(turn, Stage.TEXT_ENCODE)
            self._send_picture(
                command,
                checked(pipeline.draw(command, lambda *step: self._stepped(turn, *step))),
            )
        except StopDrawingError:
            self._send(Stopped(command.id, turn.steps))
        except DrawError as error:
            self._send(Failed(command.id, error.code, str(error)))
        except Exception as error:  # noqa: BLE001 - one broken picture must not end the child
            if isinstance(error, DeviceLostError):
                # Nothing more can be had of this process; the parent starts another.
                sys.excepthook(*sys.exc_info())
                self._outbox.join()
                os._exit(EXIT_DEVICE_LOST)
            # To the parent's log, which knows what may be told: the message may quote the prompt.
            frames = "".join(traceback.format_tb(error.__traceback__))
            problem = f"{type(error).__name__}: {error}"
            self._send(Failed(command.id, "internal", problem, frames))

    def _stepped(self, turn: Turn, step: int, steps: int) -> None:
        turn.steps = step
        self._send(Step(turn.command.id, step, steps))
        if step == steps:
            self._begin(turn, Stage.VAE_DECODE)
        elif turn.cancelled.is_set():
            raise StopDrawingError

    def _begin(self, turn: Turn, stage: Stage) -> None:
        self._send(Begun(turn.command.id, stage))
        if turn.cancelled.is_set():
            raise StopDrawingError

    def _send_picture(self, command: Generate, drawn: Drawn) -> None:
        height, width, _ = drawn.pixels.shape
        memory = {**drawn.memory, "resident": resident_bytes()}
        message = Done(command.id, width, height, drawn.forwards, drawn.seconds, memory)
        pixels = drawn.pixels.data.cast("B")
        self._outbox.put(encode(message, len(pixels)))
        self._outbox.put(pixels)

    def _send(self, message: Message) -> None:
        """Have a message sent, after all that was sent before."""
        self._outbox.put(encode(message))

    def _send_outbox(self) -> None:
        try:
            while True:
                self._connection.sendall(self._outbox.get())
                self._outbox.task_done()
        except OSError:
            os._exit(0)


def resident_bytes() -> int:
    """Return what this process holds of main memory: now on Linux, at most so far on macOS."""
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Run a child on the socket that the parent passed."""
    parser = argparse.ArgumentParser(prog="consumer.gpu.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket to the parent")
    arguments = parser.parse_args()
    # A Ctrl-C in the terminal reaches the whole process group; the parent decides when we go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, value in ROCM_DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(Worker(socket.socket(fileno=arguments.fd)).run())


if __name__ == "__main__":
    main()
