"""The commands of a caller that end with pictures, or with the ids of jobs; and the probe."""

import asyncio
import json
import logging
import re
import time
import unicodedata
import urllib.request
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from consumer.carrier import Carrier, Route, base_url, reached
from imagegen_client import GeneratedImage, ImageError, Progress

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CANNOT_CREATE = 73
EXIT_TRY_AGAIN = 75
EXIT_NOT_ALLOWED = 77
EXIT_INTERRUPTED = 130
_EXITS = {
    "invalid_request": EXIT_USAGE,
    "unavailable": EXIT_UNAVAILABLE,
    "busy": EXIT_TRY_AGAIN,
    "deadline_exceeded": EXIT_TRY_AGAIN,
    "unauthorized": EXIT_NOT_ALLOWED,
    "forbidden": EXIT_NOT_ALLOWED,
}
"""By error code, after sysexits.h."""

Size = tuple[int, int] | tuple[None, None]


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


def draw(order: Order, route: Route) -> int:
    """Have the pictures drawn and write them. Returns the exit code."""
    return _carry_out(order, route, _draw, "What was not drawn yet is called off.")


def send(order: Order, route: Route) -> int:
    """Have the pictures drawn, wait for none, and tell their ids. Returns the exit code."""
    return _carry_out(order, route, _send, "Jobs whose ids were told go on.")


def exit_code_of(code: str) -> int:
    """Return what a command exits with that ended with this error."""
    return _EXITS.get(code, EXIT_FAILED)


def run(command: Coroutine[Any, Any, int], console: Console, interrupted: str) -> int:
    """Run a command. Ctrl-C ends it with the sentence `interrupted`, once it has cleaned up."""
    # The client tells what is wrong as an error; the library below it would tell it thrice.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        console.print(interrupted)
        return EXIT_INTERRUPTED


def console_of(*, stderr: bool) -> Console:
    """Return where words for people go."""
    # No markup: paths, prompts and the broker's words may hold brackets.
    return Console(stderr=stderr, highlight=False, markup=False)


def tell_error(error: ImageError, console: Console, *, as_json: bool) -> int:
    """Tell an error with its remedy. Returns the exit code."""
    code = exit_code_of(error.code)
    if as_json:
        fields = {
            "error": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "details": error.details,
            "job_id": error.job_id,
            "perhaps_taken": error.perhaps_taken,
        }
        print(json.dumps(fields))  # noqa: T201
        return code
    told = Text.assemble((error.code, "red"), f": {error.message}")
    console.print(told, soft_wrap=True)
    for detail in error.details:
        suggestion = detail.get("suggestion")
        hint = f" ({suggestion})" if suggestion else ""
        console.print(f"  {detail['field']}: {detail['problem']}{hint}", soft_wrap=True)
    if error.perhaps_taken:
        hint = f"  It may be drawn all the same: imagegen status {error.job_id}"
        console.print(hint, soft_wrap=True)
    return code


Work = Callable[[Order, Size, Carrier, Console], Coroutine[Any, Any, int]]


def _carry_out(order: Order, route: Route, work: Work, interrupted: str) -> int:
    console = console_of(stderr=order.as_json)
    size = _parse_size(order.size)
    if order.size and size is None:
        console.print(f"--size {order.size} is no WIDTHxHEIGHT, such as 1280x720.")
        return EXIT_USAGE

    async def carried() -> int:
        try:
            async with reached(route) as carrier:
                return await work(order, size or (None, None), carrier, console)
        except ImageError as error:  # the way itself
            return tell_error(error, console, as_json=order.as_json)

    return run(carried(), console, f"Interrupted. {interrupted}")


async def _draw(order: Order, size: Size, carrier: Carrier, console: Console) -> int:
    exit_code = 0
    with _bars(console) as bars:
        results = await asyncio.gather(
            *(_one(order, size, index, carrier, bars) for index in range(order.number)),
            return_exceptions=True,
        )
    for result in results:
        if isinstance(result, ImageError):
            told = tell_error(result, console, as_json=order.as_json)
            exit_code = exit_code or told
        elif isinstance(result, OSError):
            exit_code = exit_code or EXIT_CANNOT_CREATE
            console.print(f"The picture cannot be written: {result}. Choose another --output.")
        elif isinstance(result, BaseException):
            raise result
        else:
            _tell_image(*result, order, console)
    return exit_code


async def _send(order: Order, size: Size, carrier: Carrier, console: Console) -> int:
    """One after the other, so that the queue has them in the order of their seeds."""
    exit_code = 0
    for index in range(order.number):
        options = _options(order, size, index)
        try:
            job_id = await carrier.send(order.prompt, deadline_s=order.deadline_s, **options)
        except ImageError as error:
            told = tell_error(error, console, as_json=order.as_json)
            exit_code = exit_code or told
        else:
            _tell_id(job_id, options["seed"], order)
    return exit_code


def _options(order: Order, size: Size, index: int) -> dict[str, Any]:
    """Return what the picture of this number is to be like; None is left to the service."""
    return {
        "width": size[0],
        "height": size[1],
        "seed": None if order.seed is None else order.seed + index,
        "output_format": order.output_format,
        "num_inference_steps": order.steps,
    }


async def _one(
    order: Order, size: Size, index: int, carrier: Carrier, bars: Bars
) -> tuple[GeneratedImage, Path, float]:
    task = bars.add_task("waiting for its turn", total=None)

    def on_progress(progress: Progress) -> None:
        total = progress.steps or None
        bars.update(task, description="drawing", completed=progress.step, total=total)

    started = time.monotonic()
    image = await carrier.generate(
        order.prompt,
        deadline_s=order.deadline_s,
        on_progress=on_progress,
        **_options(order, size, index),
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


def _tell_id(job_id: str, seed: int | None, order: Order) -> None:
    told = json.dumps({"job_id": job_id, "seed": seed}) if order.as_json else job_id
    print(told)  # noqa: T201


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


def probe(host: str, port: int, page: str) -> int:
    """Ask a page of the service on this machine; 0 if it says yes."""
    # A container engine may put a proxy into the environment; this machine is not behind it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{base_url(host, port)}/{page}", timeout=5) as response:
            return 0 if response.status == 200 else EXIT_FAILED
    except OSError:
        return EXIT_FAILED
