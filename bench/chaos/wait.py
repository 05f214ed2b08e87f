"""The wait: until something is true, with a limit, where nothing tells that it became so."""

import asyncio
import time
from collections.abc import Callable


async def until(true: Callable[[], bool], patience_s: float, every_s: float = 0.02) -> bool:
    """Return once it is true; False if it takes too long."""
    end = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(every_s)
    return True
