"""The built-in model through the whole service: a real broker, real processes, real diffusers."""

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from consumer import VERSION
from tests.house import House
from tests.rpc import Requester

SMALL = {"prompt": "A sunset over mountains", "width": 256, "height": 256, "seed": 42}


BUILT_IN = {"MODEL": "builtin", "PIPELINE": "consumer.gpu.diffusion:DiffusionPipeline"}


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    house = House(broker, tmp_path_factory.mktemp("house"), MAX_CONCURRENT=2)
    yield house
    house.stop()


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
async def draw(house, requester):
    """Have a picture drawn with the built-in model; returns the reply, its image as bytes."""
    await asyncio.to_thread(house.service, **BUILT_IN)

    async def draw(**fields):
        return _opened(await requester.ask({**SMALL, **fields}))

    return draw


def _opened(reply):
    assert reply["success"], reply
    return {**reply, "image": base64.b64decode(reply.pop("image_base64"))}


def _metadata(image):
    picture = Image.open(io.BytesIO(image))
    picture.load()
    return json.loads(picture.text["imagegen"])


# ---------------------------------------------------------------- what is to be seen


def _pixels(reply):
    picture = Image.open(io.BytesIO(reply["image"])).convert("RGB")
    return np.asarray(picture, dtype=np.float32) / 255


def _colours(reply):
    """Return the picture's mean colours, 0..1: all, middle and corners of it."""
    pixels = _pixels(reply)
    height, width, _ = pixels.shape
    ends = (slice(0, height // 8), slice(-(height // 8), None))
    sides = (slice(0, width // 8), slice(-(width // 8), None))
    corners = [pixels[rows, columns].mean((0, 1)) for rows in ends for columns in sides]
    middle = pixels[3 * height // 8 : 5 * height // 8, 3 * width // 8 : 5 * width // 8]
    return pixels.mean((0, 1)), middle.mean((0, 1)), np.mean(corners, 0)


def _halves(reply):
    """Return how yellow the left and the right half of the picture's middle rows are, -1..1."""
    pixels = _pixels(reply)
    height, width, _ = pixels.shape
    rows = pixels[3 * height // 8 : 5 * height // 8]
    yellow = np.minimum(rows[..., 0], rows[..., 1]) - rows[..., 2]
    return yellow[:, : width // 2].mean(), yellow[:, width // 2 :].mean()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_red_circle_on_blue_is_red_on_blue(draw, seed):
    """The prompt's colours are where the prompt has them."""
    _, middle, corners = _colours(
        await draw(prompt="a red circle on a blue background", seed=seed)
    )
    assert middle.argmax() == 0
    assert middle[0] - middle[2] > 0.25
    assert corners.argmax() == 2
    assert corners[2] - corners[0] > 0.25


async def test_colours_may_be_the_other_way_round(draw):
    """It is the words that settle which is which."""
    _, middle, corners = _colours(await draw(prompt="a blue circle on a red background"))
    assert middle.argmax() == 2
    assert corners.argmax() == 0


async def test_a_shape_is_where_the_words_have_it(draw):
    """Left is left and right is right, of one shape and of two."""
    left, right = _halves(
        await draw(prompt="a yellow square on the left on a purple background")
    )
    assert left > right + 0.4
    left, right = _halves(
        await draw(prompt="a yellow square on the right on a purple background")
    )
    assert right > left + 0.4
    two = "a blue circle on the left and a yellow square on the right on a gray background"
    left, right = _halves(await draw(prompt=two))
    assert right > left + 0.4


@pytest.mark.parametrize("land", ["the sea", "a meadow", "mountains"])
async def test_night_is_dark_and_day_is_bright(draw, land):
    """The hour is seen wherever it is."""
    night, _, _ = _colours(await draw(prompt=f"{land} at night"))
    day, _, _ = _colours(await draw(prompt=f"{land} on a sunny day"))
    assert night.mean() < 0.35
    assert day.mean() > night.mean() + 0.2


# ---------------------------------------------------------------- how it is drawn


async def test_the_default_is_drawn_with_eight_forwards(draw):
    """Nothing said of steps: 9 by the setting, 8 forwards counted, and nothing was replayed."""
    reply = await draw()
    assert (reply["forwards"], reply["replayed"]) == (8, False)
    assert _metadata(reply["image"])["steps"] == 9


async def test_the_same_seed_gives_the_same_bytes_twice(draw):
    """Two jobs that ask for the same get the same file, byte by byte."""
    first, second = await draw(), await draw()
    assert first["job_id"] != second["job_id"]
    assert not second["replayed"]
    assert first["image"] == second["image"]
    assert first["sha256"] == second["sha256"]


async def test_the_same_seed_gives_the_same_bytes_among_others(draw, requester):
    """With others in hand, before it and after it, a picture is what it is alone."""
    alone = await draw()
    seeds = [7, 42, 8, 42]
    for seed in seeds:
        await requester.publish({**SMALL, "seed": seed}, correlation_id=f"seed {seed}")
    messages = [await requester.reply() for _ in seeds]
    replies = [
        (message.correlation_id, _opened(json.loads(message.body))) for message in messages
    ]
    same = [reply["image"] for correlation_id, reply in replies if correlation_id == "seed 42"]
    assert same == [alone["image"]] * 2
    assert len({reply["image"] for _, reply in replies}) == 3


async def test_the_same_seed_gives_the_same_bytes_after_a_restart(draw, house):
    """Another process, and another day, draw the same file."""
    before = await draw()
    await asyncio.to_thread(house.restart, **BUILT_IN)
    after = await draw()
    assert after["image"] == before["image"]
    assert not after["replayed"]


async def test_no_seed_gives_the_picture_of_the_seed_that_is_told(draw):
    """The seed in the reply draws the same file again."""
    first = await draw(seed=None)
    assert (await draw(seed=first["seed"]))["image"] == first["image"]


async def test_the_picture_says_how_it_was_made(draw):
    """Prompt, seed, size, steps, model and version stand in the file, and no job id or time."""
    metadata = _metadata((await draw())["image"])
    assert metadata == {
        "software": f"imagegen {VERSION}",
        "model": "builtin",
        "revision": "scenes-3",
        "width": 256,
        "height": 256,
        "seed": 42,
        "steps": 9,
        "forwards": 8,
        "guidance_scale": 0.0,
        "prompt": "A sunset over mountains",
    }


async def test_a_wide_picture_is_exactly_as_wide(draw):
    """1280x720 is drawn as 1280x720: in the reply and in the file."""
    reply = await draw(width=1280, height=720)
    assert (reply["width"], reply["height"]) == (1280, 720)
    assert Image.open(io.BytesIO(reply["image"])).size == (1280, 720)


@pytest.mark.usefixtures("draw")
async def test_a_prompt_of_too_many_tokens_is_refused(requester):
    """The model's own tokenizer counts; the caller is told the field, and nothing is drawn."""
    reply = await requester.ask({**SMALL, "prompt": "x" * 600})
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("invalid_request", False)
    (problem,) = reply["error"]["details"]
    assert problem["field"] == "prompt"
    assert "tokens" in problem["problem"]


async def test_the_prompt_can_be_kept_out_of_the_picture(house, requester):
    """With IMAGE_GEN_EMBED_METADATA=false no byte of the file has the prompt; the rest is there."""
    await asyncio.to_thread(house.service, EMBED_METADATA="false")
    reply = _opened(await requester.ask(SMALL))
    assert b"sunset" not in reply["image"]
    assert _metadata(reply["image"])["seed"] == 42
