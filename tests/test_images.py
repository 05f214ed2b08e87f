"""The image codec: pixels come back as they were, and the metadata can be read by others."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from consumer.images import encode
from schemas.request import MEDIA_TYPES

METADATA = {
    "software": "imagegen 0.1.0",
    "model": "builtin",
    "revision": "scenes-1",
    "width": 7,
    "height": 5,
    "seed": 2**53 - 1,
    "steps": 9,
    "forwards": 8,
    "guidance_scale": 0.0,
    "prompt": "A sunset over mountains",
}
WITHOUT_PROMPT = {key: value for key, value in METADATA.items() if key != "prompt"}
PROMPTS = [
    "A sunset over mountains",
    "日没 🌄 à l'été «naïf»",
    'quotes " and \\ and\nlines\tand tabs',
    "🌄" * 4000,
]


def noise(width, height, seed=1):
    """Pixels of every value, which no filter flatters."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 3), (3, 1), (7, 5), (64, 64), (255, 257), (1280, 720)]
)
def test_a_png_is_pixel_for_pixel_what_was_drawn(width, height):
    """Pillow (libpng) decodes the very pixels, at odd sizes too."""
    pixels = noise(width, height)
    image = opened(encode(pixels.tobytes(), width, height, "png", METADATA))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (width, height))
    assert np.array_equal(np.asarray(image), pixels)


@given(st.integers(1, 17), st.integers(1, 17), st.data())
def test_a_png_of_any_pixels_decodes_to_them(width, height, data):
    """The filter's arithmetic wraps round as the PNG specification has it, for any bytes."""
    count = width * height * 3
    pixels = data.draw(st.binary(min_size=count, max_size=count))
    assert opened(encode(pixels, width, height, "png", {})).tobytes() == pixels


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
@pytest.mark.parametrize(("width", "height"), [(7, 5), (255, 257), (512, 512)])
def test_webp_and_jpeg_look_like_what_was_drawn(output_format, width, height):
    """The lossy codecs give a picture of the size and nearly of the colours."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows % 256, columns % 256, (rows + columns) // 2 % 256], axis=-1)
    pixels = (smooth // 2 + 64).astype(np.uint8)
    image = opened(encode(pixels.tobytes(), width, height, output_format, METADATA))
    assert (image.format, image.size) == (output_format.upper(), (width, height))
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("output_format", MEDIA_TYPES)
def test_the_mime_type_is_the_formats(output_format):
    """What is told in content_type is what Pillow says of the bytes."""
    data = encode(noise(9, 9).tobytes(), 9, 9, output_format, METADATA)
    assert MEDIA_TYPES[output_format] == Image.MIME[opened(data).format]


@pytest.mark.parametrize("output_format", MEDIA_TYPES)
def test_the_same_input_gives_the_same_bytes(output_format):
    """Nothing of the moment goes into a file: no time, no counter, no job."""
    pixels = noise(64, 48).tobytes()
    assert encode(pixels, 64, 48, output_format, METADATA) == encode(
        pixels, 64, 48, output_format, METADATA
    )


def png_metadata(data):
    return json.loads(opened(data).text["imagegen"])


def exif_metadata(data):
    comment = opened(data).getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment.startswith(b"UNICODE\0")
    return json.loads(comment.removeprefix(b"UNICODE\0").decode("utf-16-be"))


READERS = [("png", png_metadata), ("webp", exif_metadata), ("jpeg", exif_metadata)]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:10])
@pytest.mark.parametrize(("output_format", "read"), READERS)
def test_the_metadata_can_be_read_back(output_format, read, prompt):
    """Every field, and the longest prompt in any script, is there for Pillow to read."""
    metadata = {**METADATA, "prompt": prompt}
    data = encode(noise(7, 5).tobytes(), 7, 5, output_format, metadata)
    assert read(data) == metadata


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:10])
def test_a_png_tells_prompt_and_software_under_their_standard_names(prompt):
    """Viewers that know nothing of us show `Description` and `Software`."""
    metadata = {**METADATA, "prompt": prompt}
    text = opened(encode(noise(7, 5).tobytes(), 7, 5, "png", metadata)).text
    assert (text["Description"], text["Software"]) == (prompt, "imagegen 0.1.0")


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_exif_tells_prompt_and_software_under_their_standard_names(output_format):
    """Viewers that know nothing of us show the Exif description and software."""
    exif = opened(encode(noise(7, 5).tobytes(), 7, 5, output_format, METADATA)).getexif()
    assert exif[ExifTags.Base.ImageDescription] == METADATA["prompt"]
    assert exif[ExifTags.Base.Software] == METADATA["software"]


@pytest.mark.parametrize(("output_format", "read"), READERS)
def test_a_prompt_that_is_not_given_is_nowhere(output_format, read):
    """Without the prompt in the metadata no byte of the file has it, nor an empty field for it."""
    data = encode(noise(7, 5).tobytes(), 7, 5, output_format, WITHOUT_PROMPT)
    assert read(data) == WITHOUT_PROMPT
    assert b"Description" not in data
    assert ExifTags.Base.ImageDescription not in opened(data).getexif()


def test_pixels_that_do_not_fill_the_size_are_an_error():
    """A frame of another size is never written as a picture."""
    with pytest.raises(ValueError, match="reshape"):
        encode(b"\0" * 10, 2, 2, "png", {})
