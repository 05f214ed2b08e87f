"""The load: so many requests under way without end, from a process of its own.

A program beside the measuring one: what it decodes must not hold that one's interpreter up.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

from imagegen_client import ImageClient, ImageError
from schemas.sizes import LISTED_SIZES

FORMATS = ("png", "webp", "jpeg")
PLAIN: tuple[float, str, dict[str, object]] = (
    60.0,
    "A sunset over mountains",
    {"width": 1024, "height": 1024},
)


def mixed(number: int) -> tuple[float, str, dict[str, object]]:
    """Return patience in seconds, prompt and options of one request among others.

    For the scripted pipeline of the tests, which does what words of the prompt say: a step takes
    60 ms a megapixel, and each seventeenth picture has too little memory. Every size and format;
    each tenth is the one before once more, under the same id; each eleventh has no patience,
    and each thirteenth asks for what cannot be.
    """
    same = number - 1 if number % 10 == 9 else number
    width, height = LISTED_SIZES[same % len(LISTED_SIZES)]
    options: dict[str, object] = {
        "job_id": f"job-{same}",
        "seed": same,
        "width": width,
        "height": height,
        "output_format": FORMATS[same % len(FORMATS)],
        "guidance_scale": 5.0 if same % 13 == 0 else None,
    }
    words = f"step={0.06 * width * height / 1e6:.4f}" + (" oom" if same % 17 == 0 else "")
    return (0.3 if same % 11 == 0 else 60.0), words, options


async def keep_asking(url: str, at_once: int, *, mixture: bool) -> None:
    """Keep `at_once` requests under way, for ever."""
    numbers = count(1)

    async def ask(client: ImageClient) -> None:
        for number in numbers:
            patience_s, prompt, options = mixed(number) if mixture else PLAIN
            with contextlib.suppress(ImageError):
                await client.generate(prompt, deadline_s=patience_s, **options)

    async with ImageClient(url) as client, asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(ask(client))


@contextlib.contextmanager
def load(url: str, at_once: int, *, mixture: bool = False) -> Iterator[None]:
    """Have a load while the block runs."""
    how = "mixed" if mixture else "plain"
    process = subprocess.Popen([sys.executable, "-m", "bench.load", url, str(at_once), how])
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the load ended by itself, with code {process.returncode}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(
        keep_asking(sys.argv[1], int(sys.argv[2]), mixture=sys.argv[3] == "mixed"),
    )
