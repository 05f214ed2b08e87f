"""The GPU child's main: the main thread draws, one picture at a time; two others read and send."""

import argparse
import os
import queue
import signal
import socket
import sys
import threading

from consumer.gpu.pipeline import (
    DeviceLostError,
    DrawError,
    Drawn,
    LoadError,
    Pipeline,
    StopDrawingError,
    pipeline_named,
)
from consumer.gpu.protocol import (
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
    encode,
    receive,
)

ROCM_DEFAULTS = {
    # A first VAE decode otherwise searches kernels for minutes at every new size.
    "MIOPEN_FIND_MODE": "FAST",
    # The second picture otherwise may die of fragmentation on 16 and 24 GB cards.
    "PYTORCH_HIP_ALLOC_CONF": "garbage_collection_threshold:0.8,max_split_size_mb:512",
}
"""Safe on every ROCm card and ignored elsewhere; what the operator set stays."""


EXIT_DEVICE_LOST = 70


class Worker:
    """One connection to the parent and one pipeline."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[Load | Generate] = queue.SimpleQueue()
        self._outbox: queue.Queue[bytes | memoryview] = queue.Queue()
        self._cancelled: set[str] = set()

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
                case Generate() as command:
                    if pipeline is None:
                        raise ProtocolError("asked to draw before the model was loaded")
                    self._draw(pipeline, command)

    def _read_inbox(self) -> None:
        try:
            while True:
                match receive(self._connection):
                    case Cancel(id=job_id):
                        self._cancelled.add(job_id)
                    case (Load() | Generate()) as command:
                        self._inbox.put(command)
                    case other:
                        raise ProtocolError(f"{type(other).__name__} is not for a child")
        except (EOFError, OSError):
            # The parent is gone, so are we: the GPU is free for its successor at once.
            os._exit(0)

    def _load(self, command: Load) -> Pipeline | None:
        # Importing torch and diffusers takes up to half a minute on a cold disk.
        self._send(Loading(f"importing {command.pipeline}"))
        try:
            pipeline = pipeline_named(command.pipeline)
            ready: Ready = pipeline.load(command, lambda note: self._send(Loading(note)))
        except LoadError as error:
            self._send(LoadFailed(str(error), error.permanent))
            return None
        self._send(ready)
        return pipeline

    def _draw(self, pipeline: Pipeline, command: Generate) -> None:
        done = 0

        def on_step(step: int, steps: int) -> None:
            nonlocal done
            done = step
            self._send(Step(command.id, step, steps))
            if command.id in self._cancelled:
                raise StopDrawingError

        try:
            if command.id in self._cancelled:
                raise StopDrawingError
            self._send_picture(command, pipeline.draw(command, on_step))
        except StopDrawingError:
            self._send(Stopped(command.id, done))
        except DrawError as error:
            self._send(Failed(command.id, error.code, str(error)))
        except Exception as error:  # noqa: BLE001 - one broken picture must not end the child
            sys.excepthook(*sys.exc_info())
            if isinstance(error, DeviceLostError):
                # Nothing more can be had of this process; the parent starts another.
                self._outbox.join()
                os._exit(EXIT_DEVICE_LOST)
            self._send(Failed(command.id, "internal", f"{type(error).__name__}: {error}"))
        finally:
            self._cancelled.discard(command.id)

    def _send_picture(self, command: Generate, drawn: Drawn) -> None:
        height, width, _ = drawn.pixels.shape
        message = Done(command.id, width, height, drawn.forwards, drawn.seconds, drawn.memory)
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
