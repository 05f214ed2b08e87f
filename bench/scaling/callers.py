"""The callers: chat backends in a process of their own, that tell of every answer on a line.

Told to ask `closed:24`, so many callers ask one picture after another; told `open:1.6`, requests come
by chance, so many a second in the mean. They stop asking when their standard input is closed, and end
when the last answer is there.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator

from imagegen_client import ImageClient, ImageError

SIDE = 1024
PATIENCE_S = 300.0
SEED = 6


class Callers:
    """Asks, and writes down what came."""

    def __init__(self, client: ImageClient) -> None:
        self._client = client
        self._numbers = 0
        self.stopping = asyncio.Event()

    async def closed(self, at_once: int) -> None:
        """Have so many callers ask again as soon as they are answered."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(self._again_and_again())

    async def open(self, a_second: float) -> None:
        """Ask without regard to the answers, with exponential pauses."""
        dice = random.Random(SEED)  # noqa: S311 - no secret
        async with asyncio.TaskGroup() as tasks:
            while not self.stopping.is_set():
                tasks.create_task(self._ask())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(dice.expovariate(a_second)):
                        await self.stopping.wait()

    async def _again_and_again(self) -> None:
        while not self.stopping.is_set():
            await self._ask()

    async def _ask(self) -> None:
        self._numbers += 1
        asked = time.monotonic()
        try:
            image = await self._client.generate(
                "a simulated picture",
                deadline_s=PATIENCE_S,
                width=SIDE,
                height=SIDE,
                seed=self._numbers,
            )
        except ImageError as error:
            _tell({"asked": asked, "answered": time.monotonic(), "error": error.code})
            return
        _tell(
            {
                "asked": asked,
                "answered": time.monotonic(),
                "worker": image.worker,
                "queued_s": image.timings["queued"],
                "turn_s": image.generation_time,
                "bytes": len(image.data),
            }
        )


def _tell(facts: dict[str, object]) -> None:
    print(json.dumps({**facts, "cpu_s": time.process_time()}), flush=True)


@contextlib.asynccontextmanager
async def _until_stdin_closes(callers: Callers) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(sys.stdin)
        callers.stopping.set()

    loop.add_reader(sys.stdin, stop)
    yield


async def run(url: str, how: str) -> None:
    """Ask as told until standard input is closed."""
    kind, _, figure = how.partition(":")
    async with ImageClient(url) as client:
        await client.ready()
        callers = Callers(client)
        async with _until_stdin_closes(callers):
            if kind == "closed":
                await callers.closed(int(figure))
            else:
                await callers.open(float(figure))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
