"""The insistence: asks as often as the retry says and the deadline allows."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from imagegen_client.errors import ImageError
from imagegen_client.request import Request
from imagegen_client.retry import Retry

Answered = TypeVar("Answered")


async def insist(
    ask: Callable[[], Awaitable[Answered | ImageError]], request: Request, retry: Retry
) -> Answered | ImageError:
    """Return what the last of the attempts came to. `ask` is one attempt."""
    attempt = 0
    while True:
        attempt += 1
        outcome = await ask()
        if not isinstance(outcome, ImageError):
            return outcome
        chance = random.random()  # noqa: S311 - no secret
        wait_s = retry.wait_s(outcome, attempt, chance)
        if wait_s is None or wait_s >= request.remaining_s:
            return outcome
        await asyncio.sleep(wait_s)
