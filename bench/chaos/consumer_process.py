"""The consumer under the bench: `imagegen serve`, which stalls on SIGUSR1 and counts its tasks on SIGUSR2."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from consumer.__main__ import main

STALL_VARIABLE, TASKS_VARIABLE = "CHAOS_STALL_S", "CHAOS_TASKS"


def _stall(_number: int, _frame: FrameType | None) -> None:
    """Stand still, on the thread of the event loop."""
    time.sleep(float(os.environ[STALL_VARIABLE]))


def _count(_number: int, _frame: FrameType | None) -> None:
    """Write the number of asyncio tasks: the handler runs inside the loop's own thread."""
    path = Path(os.environ[TASKS_VARIABLE])
    fresh = path.with_suffix(".new")
    fresh.write_text(str(len(asyncio.all_tasks())))
    fresh.rename(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _stall)
    signal.signal(signal.SIGUSR2, _count)
    sys.argv = ["imagegen", "serve"]
    main()
