"""What is proved before the first message is taken: the arithmetic, and a picture at each size."""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch

from consumer.gpu import selftest, warming
from consumer.gpu.pipeline import LoadError
from consumer.gpu.protocol import Load
from consumer.gpu.selftest import Parts, decoder_problem, self_test, worst_token
from consumer.settings import SettingsError, read_settings
from schemas.sizes import LISTED_SIZES
from tests.diffusing import ignore
from tests.pipelines import Scripted

CPU = torch.device("cpu")
PICTURE = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
NAN = float("nan")


@pytest.fixture
def parts(pipeline):
    """The built-in model's, on a CPU."""
    return Parts(pipeline._pipe.vae, CPU, torch.float32, contextlib.nullcontext)


@pytest.fixture
def attention(monkeypatch):
    """Put something between the heads of one size and what is computed of them."""
    right = selftest.scaled_dot_product_attention

    def spoil(head, how):
        seen = []

        def spoiled(query, key, value):
            # The second call of a size is the reference's.
            seen.append(query.shape[-1])
            found = right(query, key, value)
            return how(found) if seen.count(head) == 1 and seen[-1] == head else found

        monkeypatch.setattr(selftest, "scaled_dot_product_attention", spoiled)

    return spoil


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_device_that_computes_right_passes(parts, dtype):
    """What rounding makes of attention and of a decode is within the tolerances."""
    self_test(replace(parts, dtype=dtype), ignore)


def shifted(found):
    """Each token has its neighbour's numbers, as from a tile that was written to a wrong place."""
    return found.roll(1, dims=-2)


def last_token_wrong(found):
    """A kernel that is right but for the end of its last tile."""
    found[..., -1, :] *= 1.1
    return found


@pytest.mark.parametrize("head", [128, 512])
@pytest.mark.parametrize("how", [shifted, last_token_wrong, lambda found: found * NAN])
def test_wrong_attention_is_refused_for_good(parts, attention, head, how):
    """At either head size, a wrong backend is told with what helps: a new process would be no better."""
    attention(head, how)
    with pytest.raises(
        LoadError, match=f"heads of {head} is wrong on cpu in float32"
    ) as caught:
        self_test(parts, ignore)
    assert caught.value.permanent
    assert "IMAGE_GEN_DEVICE=cpu" in str(caught.value)


def test_the_vaes_attention_is_tested_on_the_backends_it_runs_on(parts):
    """Where the VAE is kept off a backend that is wrong, that backend does not stop the start."""
    entered = []

    @contextlib.contextmanager
    def backends():
        entered.append(True)
        yield

    self_test(replace(parts, vae_attention=backends), ignore)
    assert len(entered) == 2  # for attention, and for the decoder


def test_the_error_of_a_token_is_measured_against_its_length():
    """One wrong token of many is seen as plainly as if all were wrong."""
    wanted = torch.ones(1, 2, 1000, 4)
    found = wanted.clone()
    found[0, 1, 999] = 0
    assert worst_token(found, wanted) == 1.0
    assert worst_token(wanted, wanted) == 0.0


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (PICTURE, None),
        (PICTURE + 0.007, None),
        (PICTURE + 0.02, "two pictures"),
        (PICTURE * NAN, "no numbers"),
    ],
)
def test_a_decoder_is_compared_with_itself(second, problem):
    """The last bit of a pixel may differ from one decode to the next, and no more."""
    told = decoder_problem(PICTURE, second)
    assert (told is None) if problem is None else (problem in told)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_decoder_may_round_otherwise_the_second_time(parts, monkeypatch, dtype):
    """In 16 bits another order of summing is far more than a bit of a pixel: the card is sound."""
    exact, rounded = copy.deepcopy(parts.vae), copy.deepcopy(parts.vae).to(dtype)
    decode, asked = rounded.decode, []

    def in_turn(latents, **options):
        asked.append(latents)
        if len(asked) == 1:
            return decode(latents, **options)
        return exact.decode(latents.float(), **options)

    monkeypatch.setattr(rounded, "decode", in_turn)
    self_test(replace(parts, vae=rounded, dtype=dtype), ignore)
    assert len(asked) == 2


def test_a_wrong_tile_is_found_in_any_precision(parts, monkeypatch):
    """What rounding cannot have made is refused in 16 bits, too."""
    rounded = copy.deepcopy(parts.vae).to(torch.bfloat16)
    decode, asked = rounded.decode, []

    def wrong_the_second_time(latents, **options):
        (image,) = decode(latents, **options)
        asked.append(latents)
        if len(asked) == 2:
            image[..., -8:, -8:] = 1.0
        return (image,)

    monkeypatch.setattr(rounded, "decode", wrong_the_second_time)
    with pytest.raises(LoadError, match="two pictures"):
        self_test(replace(parts, vae=rounded, dtype=torch.bfloat16), ignore)


def test_one_flat_colour_is_no_picture():
    """A decoder that gives the same for everything is found although it agrees with itself."""
    assert "flat" in decoder_problem(PICTURE * 0, PICTURE * 0)


def test_a_decoder_that_computes_wrong_may_be_tried_again(parts, monkeypatch):
    """Noise in the decoder stops the start, with what helps; a fresh process may do better."""
    decode = parts.vae.decode

    def noisy(latents, **options):
        (image,) = decode(latents, **options)
        return (image + 0.1 * torch.rand_like(image),)

    monkeypatch.setattr(parts.vae, "decode", noisy)
    with pytest.raises(LoadError, match="two pictures") as caught:
        self_test(parts, ignore)
    assert not caught.value.permanent


def test_a_model_is_tested_as_it_loads(new_pipeline, attention):
    """The test belongs to the load: what fails it is never ready."""
    attention(512, shifted)
    with pytest.raises(LoadError, match="heads of 512"):
        new_pipeline()


# ---------------------------------------------------------------- warming


def warmed(folder, *, device="cpu", on_cpu=True, sizes=("512x512", "1280x720"), faults=""):
    """Warm the scripted pipeline; returns what is ready then, and what was told meanwhile."""
    (folder / "faults").write_text(faults)
    command = Load("x", "scripted", None, "cpu", "auto", str(folder), list(sizes), on_cpu)
    notes, pipeline = [], Scripted()
    ready = replace(pipeline.load(command, ignore), device=device)
    return warming.warm(pipeline, ready, command, notes.append), notes


def test_each_size_is_drawn_and_told(tmp_path):
    """Whoever waits sees which size is warmed, and how many there are."""
    ready, notes = warmed(tmp_path)
    assert ready.warmed == ["512x512", "1280x720"]
    assert notes == ["warming 512x512, 1 of 2", "warming 1280x720, 2 of 2"]


@pytest.mark.parametrize(("device", "drawn"), [("cuda:0", 2), ("cpu", 0)])
def test_by_itself_only_an_accelerator_is_warmed(tmp_path, device, drawn):
    """A CPU has no kernels to load: it warms what it is told to by name."""
    ready, notes = warmed(tmp_path, device=device, on_cpu=False)
    assert (len(ready.warmed), len(notes)) == (drawn, drawn)


@pytest.mark.parametrize(
    ("setting", "sizes"),
    [
        ("auto", [f"{width}x{height}" for width, height in LISTED_SIZES]),
        ("none", []),
        ("1280x720,512x512", ["1280x720", "512x512"]),
        ("1000x1000,1024x1024,0300x500", ["1024x1024", "320x512"]),
    ],
)
def test_which_sizes_are_warmed_is_a_setting(tmp_path, setting, sizes):
    """All seven, none, or those that are named, in their order, as a request would get them."""
    assert read_settings({"IMAGE_GEN_WARM_SIZES": setting}, tmp_path).warm == sizes


@pytest.mark.parametrize(
    ("setting", "words"),
    [("128x512", "outside 256 to 1536"), ("512", "WARM_SIZES"), ("all", "WARM_SIZES")],
)
def test_sizes_that_cannot_be_drawn_are_told_at_the_start(tmp_path, setting, words):
    """A side out of range, or what is no list of sizes, is a sentence and no start."""
    with pytest.raises(SettingsError, match=words):
        read_settings({"IMAGE_GEN_WARM_SIZES": setting}, tmp_path)


def test_a_size_that_does_not_fit_stays_cold(tmp_path):
    """A card too small for a size serves the others: such a picture is drawn in tiles, or refused."""
    ready, notes = warmed(tmp_path, faults="oom")
    assert ready.warmed == []
    assert notes[1] == "512x512 stays cold: scripted oom"


@pytest.mark.parametrize("fault", ["nan", "flat"])
def test_a_picture_that_is_none_is_no_readiness(tmp_path, fault):
    """What cannot draw a small picture of ours is not let at a caller's; it may pass by itself."""
    with pytest.raises(LoadError, match="No picture of 512x512 can be drawn") as caught:
        warmed(tmp_path, faults=fault)
    assert not caught.value.permanent


async def test_the_sizes_asked_for_are_warm_before_a_request_is_taken(serve):
    """The service tells each size while it loads, takes requests after the last, and shows them."""
    service = serve(WARM_SIZES="512x512,1280x720,256x320").wait_ready()
    events = [record.get("note", record["event"]) for record in service.records]
    told = ["warming 512x512, 1 of 3", "warming 1280x720, 2 of 3", "warming 256x320, 3 of 3"]
    assert [note for note in events if note.startswith("warming")] == told
    assert events.index(told[-1]) < events.index("broker_connected")
    assert service.health()["model"]["warmed"] == ["512x512", "1280x720", "256x320"]


async def test_a_child_that_cannot_draw_is_not_ready(serve, tmp_path):
    """The service with such a GPU says so, and starts again by whoever runs it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "faults").write_text("nan")
    service = serve(WARM_SIZES="512x512")
    assert service.end() == 75
    problem = service.wait("model_cannot_be_loaded")["problem"]
    assert "No picture of 512x512 can be drawn" in problem
    assert not [record for record in service.records if record["event"] == "broker_connected"]
