"""The diffusion pipeline short of memory: tiles, what is given back, and a lost device."""

import weakref

import numpy as np
import pytest

from consumer.gpu.pipeline import DeviceLostError, OutOfMemoryError, StopDrawingError
from tests.diffusing import command, ignore, tiles_decoded

GIB = 1 << 30


def test_a_picture_in_tiles_is_nearly_the_same(pipeline, monkeypatch):
    """The decoder sees no more than 512 pixels a side at once, and the seams are not to be seen."""
    wanted = {"size": (1024, 768), "forwards": 2}
    whole = pipeline.draw(command(**wanted), ignore).pixels
    sizes = tiles_decoded(monkeypatch, pipeline)
    tiled = pipeline.draw(command(**wanted, tiled=True), ignore).pixels
    assert len(sizes) > 1
    assert max(max(size) for size in sizes) == 512
    assert tiled.shape == whole.shape
    assert not np.array_equal(tiled, whole)
    assert np.abs(tiled.astype(int) - whole).mean() < 2


def test_tiles_are_for_one_picture(pipeline, monkeypatch):
    """After a picture in tiles the next is decoded in one piece, to the same pixels as before."""
    wanted = {"size": (768, 768), "forwards": 1}
    before = pipeline.draw(command(**wanted), ignore).pixels
    pipeline.draw(command(**wanted, tiled=True), ignore)
    sizes = tiles_decoded(monkeypatch, pipeline)
    after = pipeline.draw(command(**wanted), ignore).pixels
    assert sizes == [(768, 768)]
    assert np.array_equal(before, after)


def test_tiles_are_taken_back_from_a_picture_that_fails(pipeline, monkeypatch):
    """What ends a picture in tiles, a stop or an error, does not leave them to the next."""

    def stop(*_):
        raise StopDrawingError

    with pytest.raises(StopDrawingError):
        pipeline.draw(command(size=(768, 768), forwards=1, tiled=True), stop)
    sizes = tiles_decoded(monkeypatch, pipeline)
    pipeline.draw(command(size=(768, 768), forwards=1), ignore)
    assert sizes == [(768, 768)]


def test_too_little_memory_is_told_and_the_cache_is_given_back(pipeline, monkeypatch):
    """An allocation that fails is OutOfMemoryError, raised when nothing of the picture is held."""
    import torch

    held, given_back = [], []

    class Held:
        pass

    def refuse(*_):
        mine = Held()
        held.append(weakref.ref(mine))
        raise torch.OutOfMemoryError("HIP out of memory")

    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: given_back.append([each() for each in held])
    )
    with pytest.raises(OutOfMemoryError, match="too little memory for 256x256"):
        pipeline.draw(command(), refuse)
    assert given_back == [[None]]
    assert pipeline.draw(command(forwards=1), ignore).forwards == 1


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_lost_device_is_told_as_such(offloaded):
    """Also where what tidies up after the picture meets the lost device itself."""
    import torch

    from consumer.gpu.diffusion import DiffusionPipeline

    class Lost:
        vae = None

        def __init__(self):
            self.components = {}

        def __call__(self, **_):
            raise torch.AcceleratorError("CUDA error: an illegal memory access")

        def maybe_free_model_hooks(self):
            raise torch.AcceleratorError("CUDA error: still")

    pipeline = DiffusionPipeline()
    pipeline._pipe, pipeline._offloaded = Lost(), offloaded
    with pytest.raises(DeviceLostError, match="CUDA error"):
        pipeline.draw(command(), ignore)


@pytest.mark.parametrize(
    ("free_gib", "where"),
    [
        (48, "fast"),
        (24, "fast"),
        (23, "balanced"),
        (16, "balanced"),
        (15, "low"),
        (8, "low"),
        (0, "low"),
    ],
)
def test_the_model_is_placed_by_the_room_on_the_card(free_gib, where):
    """All of it, its largest part at a time, or layer by layer: Z-Image in bf16, with 4 GiB to work."""
    from consumer.gpu.device import placement

    sizes = {"transformer": 12 * GIB, "text_encoder": 15 * GIB // 2, "vae": GIB // 2}
    assert placement(sizes, free_gib * GIB) == where
