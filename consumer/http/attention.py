"""The attention: whose news the face listens to: the jobs that somebody looked at a moment ago.

To listen to all jobs would cost every consumer the news of every other one: with hundreds of them,
more than their pictures.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

LINGER_S = 10.0
"""How long after a look: longer than a patient caller takes until the next one."""
TEND_EVERY_S = 2.0
ATTENDED_MOST = 1000
"""Jobs listened to at once; beyond it, the one that was not looked at for longest is let go."""

Change = Callable[[str], Awaitable[object]]


class Attention:
    """Follows jobs while they are looked at; a look never waits for the broker."""

    def __init__(self, follow: Change, unfollow: Change) -> None:
        self._follow = follow
        self._unfollow = unfollow
        self._until: OrderedDict[str, float] = OrderedDict()
        """Wanted: the loop's time up to which each is."""
        self._followed: set[str] = set()
        self._wanted = asyncio.Event()

    def attend(self, job_id: str) -> None:
        """Listen to a job from about now on, for LINGER_S."""
        if job_id not in self._until:
            self._wanted.set()
        self._until[job_id] = asyncio.get_running_loop().time() + LINGER_S
        self._until.move_to_end(job_id)
        if len(self._until) > ATTENDED_MOST:
            self._until.popitem(last=False)

    async def tend(self) -> None:
        """Follow what is wanted, and let go what is not any more; for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TEND_EVERY_S):
                    await self._wanted.wait()
            self._wanted.clear()
            now = asyncio.get_running_loop().time()
            for job_id in [job_id for job_id, until in self._until.items() if until < now]:
                del self._until[job_id]
            for job_id in self._followed - self._until.keys():
                self._followed.discard(job_id)
                await self._unfollow(job_id)
            for job_id in self._until.keys() - self._followed:
                self._followed.add(job_id)
                await self._follow(job_id)
