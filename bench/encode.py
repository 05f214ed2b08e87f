"""The encoders: milliseconds and size of PNG, WebP and JPEG, ours and what we might use instead.

Every lossless file is decoded again by Pillow and compared; where `pngcheck` and libpng's `pngfix`
are installed, they judge our PNG too.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from bench.photograph import photograph
from bench.report import print_table, spread, surroundings, write
from consumer import images

SIDE = 1024
RUNS = 15

Frame = NDArray[np.uint8]
Encode = Callable[[Frame], bytes]


def ours(output_format: Any) -> Encode:
    """Return what the service does, metadata included."""
    metadata = {"prompt": "A sunset over mountains", "seed": 1, "software": "imagegen"}
    return lambda frame: images.encode(frame.tobytes(), SIDE, SIDE, output_format, metadata)


def pillow(codec: str, **options: object) -> Encode:
    """Return Pillow's encoder with these options."""

    def encode(frame: Frame) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, codec, **options)
        return buffer.getvalue()

    return encode


def filtered(compress: Callable[[Frame], bytes]) -> Encode:
    """Return our filter with another deflate: the bytes that would be the PNG's one IDAT."""
    return lambda frame: compress(images._average_filtered(frame, SIDE * 3))  # noqa: SLF001


ENCODERS: dict[str, Encode] = {
    "PNG, ours (average filter, isal 1)": ours("png"),
    "average filter, isal 0 (IDAT only)": filtered(lambda rows: isal_zlib.compress(rows, 0)),
    "average filter, isal 1 (IDAT only)": filtered(lambda rows: isal_zlib.compress(rows, 1)),
    "average filter, isal 2 (IDAT only)": filtered(lambda rows: isal_zlib.compress(rows, 2)),
    "average filter, isal 3 (IDAT only)": filtered(lambda rows: isal_zlib.compress(rows, 3)),
    "average filter, zlib 1 (IDAT only)": filtered(lambda rows: zlib.compress(rows, 1)),
    "PNG, Pillow's default": pillow("PNG"),
    "PNG, Pillow level 1": pillow("PNG", compress_level=1),
    "WebP, ours (quality 90, method 2)": ours("webp"),
    "WebP quality 90, method 0": pillow("WEBP", quality=90, method=0),
    "WebP quality 90, method 4 (Pillow's)": pillow("WEBP", quality=90),
    "WebP lossless, method 0": pillow("WEBP", lossless=True, method=0),
    "JPEG, ours (quality 92)": ours("jpeg"),
    "JPEG quality 95, no subsampling": pillow("JPEG", quality=95, subsampling=0),
}
LOSSLESS = ("PNG", "WebP lossless")
JUDGES = (["pngcheck", "-q"], ["pngfix"])


def builtin_frame() -> Frame:
    """Return a picture of the built-in model."""
    from consumer.gpu.diffusion import DiffusionPipeline
    from consumer.gpu.protocol import Generate, Load

    pipeline = DiffusionPipeline()
    with tempfile.TemporaryDirectory() as folder:
        pipeline.load(Load("", "builtin", None, "cpu", "auto", folder), print)
    command = Generate("bench", "A sunset over mountains", SIDE, SIDE, 1, 8, 0.0)
    return pipeline.draw(command, lambda *_: None).pixels


def measure(frame: Frame) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """Return milliseconds and KiB of every encoder, and its file.

    In turns, so that a neighbour who takes the processor for a while takes it from all.
    """
    times: dict[str, list[float]] = {name: [] for name in ENCODERS}
    files = {name: encode(frame) for name, encode in ENCODERS.items()}
    for _ in range(RUNS):
        for name, encode in ENCODERS.items():
            started = time.perf_counter()
            encode(frame)
            times[name].append(1e3 * (time.perf_counter() - started))
    figures = {
        name: {"ms": spread(times[name]), "kib": round(len(files[name]) / 1024)}
        for name in ENCODERS
    }
    return figures, files


def same(data: bytes, frame: Frame) -> bool:
    """Tell whether Pillow reads the same pixels."""
    return bool((np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) == frame).all())


def judge(data: bytes) -> dict[str, bool]:
    """Return what the independent programs that are installed say of a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        path.write_bytes(data)
        return {
            command[0]: subprocess.run(
                [*command, path], capture_output=True, check=False
            ).returncode
            == 0
            for command in JUDGES
            if shutil.which(command[0])
        }


def on_frame(title: str, frame: Frame) -> tuple[dict[str, Any], bool]:
    """Measure all on one frame and print; also tell whether every file is right."""
    figures, files = measure(frame)
    wrong = [
        name for name in files if name.startswith(LOSSLESS) and not same(files[name], frame)
    ]
    verdicts = judge(files["PNG, ours (average filter, isal 1)"])
    print_table(
        f"{title}, {SIDE}x{SIDE}",
        ("encoder", "ms (median)", "ms (min)", "KiB"),
        [
            [name, f"{each['ms']['median']:.1f}", f"{each['ms']['min']:.1f}", each["kib"]]
            for name, each in figures.items()
        ],
    )
    print(f"\nnot the same pixels: {wrong or 'none'}; our PNG is valid: {verdicts}")
    return {"encoders": figures, "our_png_is_valid": verdicts}, not wrong and all(
        verdicts.values()
    )


def main() -> int:
    """Run it, print the tables, write the figures. Returns the exit code."""
    frames = {"photograph": photograph(), "built-in model": builtin_frame()}
    measured = {title: on_frame(title, frame) for title, frame in frames.items()}
    write(
        "encode",
        {
            **surroundings("pillow", "isal", "numpy"),
            "runs": RUNS,
            "frames": {title: figures for title, (figures, _) in measured.items()},
        },
    )
    return 0 if all(right for _, right in measured.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
