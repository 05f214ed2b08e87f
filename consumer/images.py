"""The image codec: pixels to PNG, WebP or JPEG bytes with metadata. Pure."""

import io
import json
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from schemas.request import OutputFormat

Metadata = Mapping[str, str | int | float]
"""What is embedded. Holds no job id and no time: the same request gives the same bytes."""

WEBP_QUALITY = 90
JPEG_QUALITY = 92

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AVERAGE = 3
"""Filter type of the PNG specification (W3C PNG, section 9.2)."""
_BLOCK_ROWS = 32
_EXIF_IMAGE_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131
_EXIF_IFD, _EXIF_USER_COMMENT = 0x8769, 0x9286


def encode(
    pixels: bytes | bytearray,
    width: int,
    height: int,
    output_format: OutputFormat,
    metadata: Metadata,
) -> bytes:
    """Encode `height` x `width` x 3 uint8 sRGB pixels, given row by row.

    The metadata goes in as JSON: in PNG as an iTXt chunk `imagegen`, in WebP and JPEG as the
    Exif user comment; the prompt and the software also under their standard names.
    """
    array = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    if output_format == "png":
        return _png(array, metadata)
    return _by_pillow(array, output_format, metadata)


def _png(array: NDArray[np.uint8], metadata: Metadata) -> bytes:
    """Write a PNG with the average filter and isal's fastest deflate.

    A photograph-like 1024x1024 picture takes 20 ms where Pillow's default takes 450, for 5 % more
    bytes (docs/performance.md).
    """
    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            _PNG_SIGNATURE,
            _chunk(b"IHDR", header),
            *(_text_chunk(key, text) for key, text in _texts(metadata)),
            _chunk(b"IDAT", isal_zlib.compress(_average_filtered(array, width * channels), 1)),
            _chunk(b"IEND", b""),
        )
    )


def _average_filtered(array: NDArray[np.uint8], row_bytes: int) -> NDArray[np.uint8]:
    """Return the rows, each with its filter byte and less floor((left + above) / 2).

    Block by block, so that what is between stays in the processor's cache: 2 ms instead of 6.
    """
    height, _, channels = array.shape
    rows = array.reshape(height, row_bytes)
    filtered = np.empty((height, 1 + row_bytes), np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:1, 1:] = rows[:1] - (_left(rows[:1], channels) >> 1)
    for top in range(1, height, _BLOCK_ROWS):
        block = rows[top : top + _BLOCK_ROWS]
        above, left = rows[top - 1 : top - 1 + len(block)], _left(block, channels)
        # floor((a + b) / 2) without leaving uint8
        average = (above & left) + ((above ^ left) >> 1)
        np.subtract(block, average, out=filtered[top : top + len(block), 1:])
    return filtered


def _left(rows: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return the pixel to the left of each; 0 at the edge."""
    left = np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    return left


def _texts(metadata: Metadata) -> list[tuple[str, str]]:
    texts = [("imagegen", json.dumps(dict(metadata), ensure_ascii=False))]
    if "prompt" in metadata:
        texts.append(("Description", str(metadata["prompt"])))
    texts.append(("Software", str(metadata.get("software", "imagegen"))))
    return texts


def _text_chunk(key: str, text: str) -> bytes:
    """An uncompressed iTXt chunk: UTF-8, no language tag."""
    return _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))),
        )
    )


def _by_pillow(
    array: NDArray[np.uint8], output_format: OutputFormat, metadata: Metadata
) -> bytes:
    exif = Image.Exif()
    texts = dict(_texts(metadata))
    exif[_EXIF_SOFTWARE] = texts["Software"]
    if "Description" in texts:
        exif[_EXIF_IMAGE_DESCRIPTION] = texts["Description"]
    exif.get_ifd(_EXIF_IFD)[_EXIF_USER_COMMENT] = b"UNICODE\0" + texts["imagegen"].encode(
        "utf-16-be"
    )
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if output_format == "webp":
        image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=2, exif=exif)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, exif=exif)
    return buffer.getvalue()
