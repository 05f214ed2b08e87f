"""The commands of a caller: draw, call off, probe. A progress bar and the reply's facts."""

import asyncio
import json
import logging
import re
import time
import unicodedata
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from imagegen_client import GeneratedImage, ImageClient, ImageError, Progress

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CANNOT_CREATE = 73
EXIT_TRY_AGAIN = 75
_EXITS = {
    "invalid_request": EXIT_USAGE,
    "unavailable": EXIT_UNAVAILABLE,
    "busy": EXIT_TRY_AGAIN,
    "deadline_exceeded": EXIT_TRY_AGAIN,
}
"""By error code, after sysexits.h."""


@dataclass(frozen=True, slots=True)
class Order:
    """What `imagegen generate` was asked for."""

    prompt: str
    size: str | None
    seed: int | None
    number: int
    output: Path
    output_format: str
    steps: int | None
    deadline_s: float
    as_json: bool


def draw(order: Order, url: str) -> int:
    """Have the pictures drawn and write them. Returns the exit code."""
    # The client tells what is wrong as an error; the library below it would tell it thrice.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    # No markup: paths, prompts and the broker's words may hold brackets.
    console = Console(stderr=order.as_json, highlight=False, markup=False)
    size = _parse_size(order.size)
    if order.size and size is None:
        console.print(f"--size {order.size} is no WIDTHxHEIGHT, such as 1280x720.")
        return EXIT_USAGE
    return asyncio.run(_draw(order, size or (None, None), url, console))


async def _draw(
    order: Order, size: tuple[int | None, int | None], url: str, console: Console
) -> int:
    exit_code = 0
    with _bars(console) as bars:
        async with ImageClient(url) as client:
            results = await asyncio.gather(
                *(_one(order, size, index, client, bars) for index in range(order.number)),
                return_exceptions=True,
            )
    for result in results:
        if isinstance(result, ImageError):
            exit_code = exit_code or _EXITS.get(result.code, EXIT_FAILED)
            _tell_error(result, order, console)
        elif isinstance(result, OSError):
            exit_code = exit_code or EXIT_CANNOT_CREATE
            console.print(f"The picture cannot be written: {result}. Choose another --output.")
        elif isinstance(result, BaseException):
            raise result
        else:
            _tell_image(*result, order, console)
    return exit_code


async def _one(
    order: Order,
    size: tuple[int | None, int | None],
    index: int,
    client: ImageClient,
    bars: Bars,
) -> tuple[GeneratedImage, Path, float]:
    task = bars.add_task("waiting for its turn", total=None)

    def on_progress(progress: Progress) -> None:
        total = progress.steps or None
        bars.update(task, description="drawing", completed=progress.step, total=total)

    started = time.monotonic()
    image = await client.generate(
        order.prompt,
        width=size[0],
        height=size[1],
        seed=None if order.seed is None else order.seed + index,
        output_format=order.output_format,
        num_inference_steps=order.steps,
        deadline_s=order.deadline_s,
        on_progress=on_progress,
    )
    seconds = time.monotonic() - started
    bars.update(task, description="done", completed=image.forwards, total=image.forwards)
    return image, image.save(_path(order, image)), seconds


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=console,
    )


def _tell_image(
    image: GeneratedImage, path: Path, seconds: float, order: Order, console: Console
) -> None:
    if order.as_json:
        facts = {key: value for key, value in asdict(image).items() if key != "data"}
        print(json.dumps({"path": str(path), "seconds": round(seconds, 3), **facts}))  # noqa: T201
        return
    console.print(str(path), style="bold", soft_wrap=True)
    console.print(
        f"  {image.width}x{image.height} {image.format}, seed {image.seed}, "
        f"{image.forwards} forwards in {image.generation_time:.2f} s ({seconds:.2f} s in all), "
        f"model {image.model}",
        soft_wrap=True,
    )


def _tell_error(error: ImageError, order: Order, console: Console) -> None:
    if order.as_json:
        fields = {
            "error": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "details": error.details,
        }
        print(json.dumps(fields))  # noqa: T201
        return
    told = Text.assemble((error.code, "red"), f": {error.message}")
    console.print(told, soft_wrap=True)
    for detail in error.details:
        suggestion = detail.get("suggestion")
        hint = f" ({suggestion})" if suggestion else ""
        console.print(f"  {detail['field']}: {detail['problem']}{hint}", soft_wrap=True)


def _parse_size(size: str | None) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", size or "")
    return (int(match[1]), int(match[2])) if match else None


def _path(order: Order, image: GeneratedImage) -> Path:
    if order.output.suffix and order.number == 1:
        return order.output
    plain = unicodedata.normalize("NFKD", order.prompt).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60].strip("-") or "picture"
    suffix = "jpg" if image.format == "jpeg" else image.format
    return order.output / f"{slug}-{image.seed}.{suffix}"


def call_off(job_id: str, url: str) -> int:
    """Broadcast a cancel. Returns the exit code."""
    try:
        asyncio.run(_call_off(job_id, url))
    except ImageError as error:
        Console(stderr=True, markup=False).print(f"{error.code}: {error.message}")
        return _EXITS.get(error.code, EXIT_FAILED)
    return 0


async def _call_off(job_id: str, url: str) -> None:
    async with ImageClient(url) as client:
        await client.cancel(job_id)


def probe(host: str, port: int, page: str) -> int:
    """Ask a page of the service on this machine; 0 if it says yes."""
    # A container engine may put a proxy into the environment; this machine is not behind it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    try:
        with direct.open(f"http://{address}:{port}/{page}", timeout=5) as response:
            return 0 if response.status == 200 else EXIT_FAILED
    except OSError:
        return EXIT_FAILED
