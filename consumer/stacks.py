"""The stacks: on SIGUSR1 the log is told where every thread and every asyncio task stands."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from consumer.logs import logger

log = logger(__name__)

FRAMES_MOST = 60
"""Of one thread or task; the innermost are kept."""


@contextlib.contextmanager
def told_on_signal(number: int = signal.SIGUSR1) -> Iterator[None]:
    """Tell the stacks at each such signal, while the block lasts; for the main thread.

    A thread of its own tells them, so that an event loop that stands still is told, too. The
    signal reaches it through a pipe: a handler may come in the middle of anything, and holds no
    lock. Neither does the signal end the process any more.
    """
    heard, told = os.pipe()
    teller = threading.Thread(target=_tell_each, args=(heard,), name="stacks", daemon=True)
    before = signal.signal(number, lambda *_: _write(told))
    teller.start()
    try:
        yield
    finally:
        signal.signal(number, before)
        os.close(told)
        teller.join()


def threads() -> dict[str, list[str]]:
    """Return where each thread stands, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, 'unknown')} {ident}": _calls(frame)[-FRAMES_MOST:]
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - the documented way
    }


def tasks() -> dict[str, list[str]]:
    """Return where each task of every event loop stands, the innermost await last."""
    found = {}
    for loop in _loops():
        # The other thread goes on meanwhile: a task may be there twice, or gone.
        for task in asyncio.all_tasks(loop):
            found[f"{task.get_name()} {id(task)}"] = [*_awaits(task.get_coro())][-FRAMES_MOST:]
    return found


def _tell_each(heard: int) -> None:
    with open(heard, "rb", buffering=0) as signals:
        while signals.read(1):
            log.warning("stacks", threads=threads(), tasks=tasks())


def _write(told: int) -> None:
    os.write(told, b"!")


def _calls(innermost: FrameType) -> list[str]:
    """Return the calls of a thread, the outermost first, without ours that tell them."""
    calls = [
        _place(frame.f_code, frame.f_lineno)
        for frame in _outwards(innermost)
        if frame.f_code.co_filename != __file__
    ]
    return calls[::-1]


def _outwards(innermost: FrameType) -> Iterator[FrameType]:
    frame: FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaits(awaited: Any) -> Iterator[str]:
    """Give the chain of what awaits what: a suspended task has no stack, but this."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            yield _place(frame.f_code, frame.f_lineno)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _loops() -> set[asyncio.AbstractEventLoop]:
    """Return the event loops that run, found on the stacks of their threads."""
    runners = (
        frame.f_locals.get("self")
        for innermost in sys._current_frames().values()  # noqa: SLF001 - the documented way
        for frame in _outwards(innermost)
        if frame.f_code.co_name == "run_forever"
    )
    return {loop for loop in runners if isinstance(loop, asyncio.AbstractEventLoop)}


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"
