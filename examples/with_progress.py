"""A picture with its progress, by our client: python with_progress.py URL PROMPT FILE."""

import asyncio
import sys

from imagegen_client import ImageClient, ImageError, Retry


async def draw(url: str, prompt: str, file: str) -> None:
    """Draw one picture within a minute; a full queue is waited for."""
    async with (
        ImageClient(url) as client,
        client.submit(prompt, deadline_s=60, retry=Retry(attempts=5)) as job,
    ):
        async for progress in job:
            print(f"{progress.state} {progress.step} of {progress.steps}")
        (await job.result()).save(file)


try:
    asyncio.run(draw(*sys.argv[1:4]))
except ImageError as error:
    sys.exit(f"{error.code}: {error.message}")
