"""The overhead: what the service adds to the time of the pipeline, one request at a time.

Overhead = seconds from the publish to the reply, as the caller sees them, less what the reply says
of the pipeline (text_encode + denoise + vae_decode). Its parts:

- handover: turn on the GPU less pipeline and encoding: to the child and back, with the frame
- encode: pixels to the file's bytes, and their hash
- rest: broker, admission, store and both ends of AMQP
"""

import asyncio
import time

from bench.report import print_table, spread, surroundings, write
from bench.rig import rig
from imagegen_client import GeneratedImage, ImageClient

REQUESTS = 30
WARM_UP = 3
SIDE = 1024
PIPELINE = ("text_encode", "denoise", "vae_decode")
PARTS = ("pipeline", "handover", "encode", "rest", "overhead")


def parts_ms(image: GeneratedImage, seconds: float) -> dict[str, float]:
    """Return where the milliseconds of one request went."""
    pipeline = sum(image.timings[stage] for stage in PIPELINE)
    encode = image.timings["encode"]
    parts = {
        "pipeline": pipeline,
        "handover": image.generation_time - pipeline - encode,
        "encode": encode,
        "rest": seconds - image.generation_time,
        "overhead": seconds - pipeline,
    }
    return {name: 1e3 * value for name, value in parts.items()}


async def measure(url: str) -> list[dict[str, float]]:
    """Send the requests one after another; return the parts of each."""
    async with ImageClient(url) as client:
        measured = []
        for seed in range(WARM_UP + REQUESTS):
            started = time.monotonic()
            image = await client.generate(
                "A sunset over mountains", width=SIDE, height=SIDE, seed=seed
            )
            ended = time.monotonic()
            measured.append({**parts_ms(image, ended - started), "kib": len(image.data) / 1024})
    return measured[WARM_UP:]


def main() -> None:
    """Run it, print the table, write the figures."""
    with rig(MODEL="builtin", MAX_CONCURRENT=1) as set_up:
        measured = asyncio.run(measure(set_up.url))
    figures = {
        name: spread([request[name] for request in measured]) for name in (*PARTS, "kib")
    }
    print_table(
        f"Built-in model, {SIDE}x{SIDE} PNG ({figures['kib']['median']:.0f} KiB), "
        f"{REQUESTS} requests one at a time, ms",
        ("part", "median", "min", "max"),
        [[name, *(f"{value:.1f}" for value in figures[name].values())] for name in PARTS],
    )
    write(
        "overhead",
        {
            **surroundings("torch", "diffusers", "isal", "aio-pika"),
            "requests": REQUESTS,
            "milliseconds": figures,
        },
    )


if __name__ == "__main__":
    main()
