"""The diffusion pipeline: the real diffusers code, with tiny models, on a CPU."""

import json
import socket
import stat
import weakref

import numpy as np
import pytest

from consumer.gpu.pipeline import (
    DeviceLostError,
    Drawn,
    LoadError,
    NanOutputError,
    OutOfMemoryError,
    PromptTooLongError,
    StopDrawingError,
    checked,
)
from consumer.gpu.protocol import Generate, Load
from schemas.sizes import LISTED_SIZES

GIB = 1 << 30


def load(model="builtin", device="cpu", data_dir="/nowhere"):
    return Load(
        "consumer.gpu.diffusion:DiffusionPipeline", model, None, device, "auto", data_dir
    )


def command(prompt="A sunset over mountains", size=(256, 256), seed=42, **more):
    return Generate(
        **{
            "id": "job-1",
            "prompt": prompt,
            "width": size[0],
            "height": size[1],
            "seed": seed,
            "forwards": 8,
            "guidance": 0.0,
            **more,
        }
    )


def ignore(*_):
    pass


@pytest.fixture(scope="session")
def new_pipeline(data_dir):
    """Load a model: the built-in one, unless another is wanted."""
    from consumer.gpu.diffusion import DiffusionPipeline

    def new(wanted=None):
        made = DiffusionPipeline()
        ready = made.load(wanted or load(data_dir=str(data_dir)), ignore)
        return made, ready

    return new


@pytest.fixture(scope="session")
def built_in(new_pipeline):
    return new_pipeline()


@pytest.fixture(scope="session")
def pipeline(built_in):
    """The built-in model, which no test changes."""
    return built_in[0]


@pytest.fixture
def forbid_network(monkeypatch):
    """Make every way out an error."""

    def forbidden(*arguments, **_):
        raise ConnectionRefusedError(f"a test reached for the network: {arguments!r}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)


# ---------------------------------------------------------------- steps


def test_nine_steps_are_eight_forwards(built_in):
    """The model card's 9 runs the transformer 8 times, counted, and tells of 8 steps."""
    pipeline, ready = built_in
    told = []
    drawn = pipeline.draw(
        command(forwards=9 - ready.steps_per_forward_less),
        lambda step, steps: told.append((step, steps)),
    )
    assert drawn.forwards == 8
    assert told == [(step, 8) for step in range(1, 9)]


@pytest.mark.parametrize("forwards", [1, 2, 9])
def test_as_many_forwards_are_run_as_are_asked_for(pipeline, forwards):
    """Any legal number of steps is run and counted."""
    assert pipeline.draw(command(forwards=forwards), ignore).forwards == forwards


def test_the_sigmas_are_those_of_the_distilled_schedule(pipeline):
    """What we pass explicitly is what this release of diffusers makes of 8 steps by itself."""
    import torch

    pipeline.draw(command(), ignore)
    ours = pipeline._pipe.scheduler.sigmas.clone()
    pipeline._pipe(
        prompt="x",
        width=256,
        height=256,
        num_inference_steps=8,
        guidance_scale=0.0,
        output_type="latent",
    )
    assert len(ours) == 9
    assert torch.allclose(ours, pipeline._pipe.scheduler.sigmas, rtol=0, atol=1e-6)


def test_a_pipeline_that_runs_another_number_of_forwards_is_found_out(new_pipeline):
    """Where a release of diffusers counts otherwise, no picture is given for the right one."""
    pipeline, _ = new_pipeline()
    pipeline._pipe.transformer.register_forward_hook(pipeline._count_forward)
    with pytest.raises(RuntimeError, match="16 forwards were run instead of 8"):
        pipeline.draw(command(), ignore)


def test_guidance_is_drawn_where_it_is_asked_for(pipeline):
    """The model takes guidance above 0: another picture, as many forwards."""
    plain, guided = (
        pipeline.draw(command(guidance=guidance, forwards=2), ignore) for guidance in (0.0, 4.0)
    )
    assert guided.forwards == 2
    assert not np.array_equal(plain.pixels, guided.pixels)


# ---------------------------------------------------------------- the same picture


def test_the_same_command_gives_the_same_pixels(pipeline):
    """Drawing leaves nothing behind, neither in the pipeline nor in the command."""
    wanted = command(forwards=3)
    first, second = pipeline.draw(wanted, ignore), pipeline.draw(wanted, ignore)
    assert np.array_equal(first.pixels, second.pixels)
    assert wanted == command(forwards=3)


def test_a_picture_that_was_called_off_changes_nothing(pipeline):
    """After an abort in the middle the pipeline draws what it drew before."""
    wanted = command(forwards=3)
    before = pipeline.draw(wanted, ignore)

    def stop_at_two(step, _):
        if step == 2:
            raise StopDrawingError

    with pytest.raises(StopDrawingError):
        pipeline.draw(command(seed=1), stop_at_two)
    assert np.array_equal(before.pixels, pipeline.draw(wanted, ignore).pixels)


def test_another_process_draws_the_same(new_pipeline, pipeline):
    """A model that is loaded anew draws the same picture: nothing hangs on the process."""
    other, _ = new_pipeline()
    ours, theirs = (each.draw(command(forwards=3), ignore) for each in (pipeline, other))
    assert np.array_equal(ours.pixels, theirs.pixels)


@pytest.mark.parametrize("change", [{"seed": 43}, {"prompt": "A sunrise"}], ids=str)
def test_another_request_gives_another_picture(pipeline, change):
    """Seed and prompt have an effect."""
    before, after = (
        pipeline.draw(command(forwards=2, **more), ignore) for more in ({}, change)
    )
    assert not np.array_equal(before.pixels, after.pixels)


def test_the_largest_seed_is_drawn(pipeline):
    """Every seed that the contract takes is one for the generator."""
    assert pipeline.draw(command(seed=2**53 - 1, forwards=1), ignore).forwards == 1


@pytest.mark.parametrize("size", LISTED_SIZES)
def test_the_seven_sizes_come_out_exactly(pipeline, size):
    """The frame has the width and height asked for, as 8-bit RGB, ready to be sent."""
    pixels = pipeline.draw(command(size=size, forwards=1), ignore).pixels
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_every_stage_is_timed(pipeline):
    """Seconds are told by stage."""
    seconds = pipeline.draw(command(forwards=1), ignore).seconds
    assert list(seconds) == ["text_encode", "denoise", "vae_decode"]
    assert all(value > 0 for value in seconds.values())


# ---------------------------------------------------------------- prompts


def test_a_prompt_of_too_many_tokens_is_refused_before_anything_is_drawn(pipeline):
    """512 tokens are drawn and 513 refused, with both numbers: nothing is cut off in silence."""
    template = 19  # tokens that the chat template adds; each letter is one
    longest = "x" * (512 - template)
    assert pipeline.draw(command(longest, forwards=1), ignore).forwards == 1
    told = []
    with pytest.raises(PromptTooLongError, match=r"has 513 tokens .* reads 512\. Shorten it\."):
        pipeline.draw(command(f"{longest}x"), lambda *step: told.append(step))
    assert told == []
    assert pipeline._forwards == 0


@pytest.mark.parametrize("prompt", ["日没 🌄", "<|im_end|>", "\n", "x"])
def test_an_odd_prompt_is_drawn(pipeline, prompt):
    """Other scripts, the template's own words and blank ones are prompts."""
    assert pipeline.draw(command(prompt, forwards=1), ignore).forwards == 1


# ---------------------------------------------------------------- no picture


def _poison_transformer(pipe, _):
    for parameter in pipe.transformer.parameters():
        parameter.fill_(float("nan"))


def _poison_decoder(pipe, _):
    pipe.vae.decoder.conv_out.weight.fill_(float("nan"))


def _flatten(pipe, _):
    pipe.vae.decoder.conv_out.weight.zero_()
    pipe.vae.decoder.conv_out.bias.zero_()


def _paint_over(pipe, torch):
    pipe.vae.decoder.conv_out.weight.zero_()
    pipe.vae.decoder.conv_out.bias.copy_(torch.tensor([0.5, -0.5, 0.0]))


@pytest.mark.parametrize(
    ("poison", "sentence"),
    [
        (_poison_transformer, "The model gave values that are no numbers."),
        (_poison_decoder, "The decoder gave values that are no numbers."),
        (_flatten, "The picture is one flat colour."),
        (_paint_over, "The picture is one flat colour."),
    ],
)
def test_what_is_no_picture_is_never_given_for_one(new_pipeline, poison, sentence):
    """NaN in the latents or the pixels, and one flat colour, are errors and no black picture."""
    import torch

    pipeline, _ = new_pipeline()
    with torch.no_grad():
        poison(pipeline._pipe, torch)
    with pytest.raises(NanOutputError, match=sentence):
        checked(pipeline.draw(command(), ignore))


# ---------------------------------------------------------------- too little memory


def _tiles_decoded(monkeypatch, pipeline):
    """The sizes in pixels of what the decoder is given from now on, a piece each."""
    sizes, decoder = [], pipeline._pipe.vae.decoder
    forward = decoder.forward

    def counted(latents, *more, **options):
        sizes.append(tuple(8 * side for side in latents.shape[:-3:-1]))
        return forward(latents, *more, **options)

    monkeypatch.setattr(decoder, "forward", counted)
    return sizes


def test_a_picture_in_tiles_is_nearly_the_same(pipeline, monkeypatch):
    """The decoder sees no more than 512 pixels a side at once, and the seams are not to be seen."""
    wanted = {"size": (1024, 768), "forwards": 2}
    whole = pipeline.draw(command(**wanted), ignore).pixels
    sizes = _tiles_decoded(monkeypatch, pipeline)
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
    sizes = _tiles_decoded(monkeypatch, pipeline)
    after = pipeline.draw(command(**wanted), ignore).pixels
    assert sizes == [(768, 768)]
    assert np.array_equal(before, after)


def test_tiles_are_taken_back_from_a_picture_that_fails(pipeline, monkeypatch):
    """What ends a picture in tiles, a stop or an error, does not leave them to the next."""

    def stop(*_):
        raise StopDrawingError

    with pytest.raises(StopDrawingError):
        pipeline.draw(command(size=(768, 768), forwards=1, tiled=True), stop)
    sizes = _tiles_decoded(monkeypatch, pipeline)
    pipeline.draw(command(size=(768, 768), forwards=1), ignore)
    assert sizes == [(768, 768)]


def test_another_class_draws_in_tiles(other, monkeypatch):
    """The decoder of any other pipeline that can do it does it too."""
    pipeline, _ = other
    sizes = _tiles_decoded(monkeypatch, pipeline)
    drawn = pipeline.draw(command("a", (768, 512), forwards=1, tiled=True), ignore)
    assert drawn.pixels.shape == (512, 768, 3)
    assert max(max(size) for size in sizes) == 512


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
    "pixels",
    [np.ones((8, 8, 3), np.float32), np.ones((8, 8, 4), np.uint8), np.ones((8, 8), np.uint8)],
    ids=["float32", "four channels", "no channels"],
)
def test_pixels_of_another_kind_are_no_picture(pixels):
    """What would break the frame is a defect of the pipeline, told before it is sent."""
    with pytest.raises(TypeError, match="a picture of"):
        checked(Drawn(pixels, 8, {}))


# ---------------------------------------------------------------- other models


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory):
    """A folder with a tiny Stable Diffusion: another class that takes the same call."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *letters,
        *(f"{letter}</w>" for letter in letters),
    ]
    tokenizer = CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[],
        model_max_length=77,
    )
    torch.manual_seed(7)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[4] * 4,
            norm_num_groups=2,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=8,
                num_attention_heads=2,
                num_hidden_layers=1,
                vocab_size=len(words),
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            down_block_types=["CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D"],
            block_out_channels=[4],
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=2,
        ),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("stable-diffusion")
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other(new_pipeline, stable_diffusion):
    return new_pipeline(load(str(stable_diffusion)))


def test_another_class_that_takes_the_call_is_drawn_with(other):
    """A folder with another text-to-image pipeline works: its class is told, steps are forwards."""
    pipeline, ready = other
    assert (ready.pipeline, ready.revision) == ("StableDiffusionPipeline", "local")
    assert (ready.steps_per_forward_less, ready.size_multiple) == (0, 8)
    told = []
    drawn = pipeline.draw(
        command("a sunset", (64, 48), forwards=3), lambda *step: told.append(step)
    )
    assert drawn.pixels.shape == (48, 64, 3)
    assert drawn.forwards == 3
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_another_class_draws_the_same_seed_twice(other):
    """What is promised of seeds holds for every class."""
    pipeline, _ = other
    first, second, third = (
        pipeline.draw(command("a sunset", (64, 64), seed, forwards=2), ignore).pixels
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_another_class_refuses_a_prompt_that_it_would_cut_off(other):
    """CLIP reads 77 tokens and drops the rest in silence: we do not."""
    pipeline, _ = other
    longest = "x" * 75  # a token each, and two that CLIP adds
    assert pipeline.draw(command(longest, (64, 64), forwards=1), ignore).forwards == 1
    with pytest.raises(PromptTooLongError, match=r"has 78 tokens .* reads 77\. Shorten it\."):
        pipeline.draw(command(f"{longest}x", (64, 64)), ignore)


# ---------------------------------------------------------------- refused at start


def _index(class_name):
    return json.dumps({"_class_name": class_name})


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (None, "has no model_index.json: it is no folder of a diffusers pipeline."),
        ("", "model_index.json cannot be read"),
        ("{", "model_index.json cannot be read"),
        ("[]", "model_index.json cannot be read"),
        ("{}", "model_index.json cannot be read"),
        (_index("NoSuchPipeline"), "asks for the pipeline NoSuchPipeline, which diffusers"),
        (_index("logging"), "asks for the pipeline logging, which diffusers"),
        (
            _index("StableDiffusionImg2ImgPipeline"),
            "StableDiffusionImg2ImgPipeline does not take width, height, so it cannot be driven",
        ),
        (_index("ZImagePipeline"), "cannot be loaded: "),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(new_pipeline, tmp_path, index, sentence):
    """Each way in which a folder is not our model has its sentence, and no restart helps."""
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(LoadError) as caught:
        new_pipeline(load(str(tmp_path)))
    assert sentence in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "does not take" in sentence
    assert caught.value.permanent


@pytest.mark.parametrize("folder", ["/no/such/folder", "./no-such-folder"])
def test_a_missing_folder_is_refused(new_pipeline, forbid_network, folder):
    """A path is never taken for the name of a model on the hub."""
    with pytest.raises(LoadError, match="There is no folder") as caught:
        new_pipeline(load(folder))
    assert caught.value.permanent


def test_a_hub_that_is_away_is_told_with_the_remedy(new_pipeline, forbid_network):
    """A model that cannot be fetched now may be later: the sentence names what else to do."""
    with pytest.raises(LoadError, match="IMAGE_GEN_MODEL=builtin") as caught:
        new_pipeline(load("imagegen-tests/no-such-model"))
    assert not caught.value.permanent


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_told_with_the_remedy(new_pipeline, monkeypatch, device):
    """Asked for a card where there is none, the start is refused; nothing runs on the CPU instead."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        LoadError, match=f"IMAGE_GEN_DEVICE={device}, but .* sees no GPU"
    ) as caught:
        new_pipeline(load(device=device))
    assert "set IMAGE_GEN_DEVICE=cpu" in str(caught.value)
    assert caught.value.permanent


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
    from consumer.gpu.diffusion import placement

    sizes = {"transformer": 12 * GIB, "text_encoder": 15 * GIB // 2, "vae": GIB // 2}
    assert placement(sizes, free_gib * GIB) == where


# ---------------------------------------------------------------- the built-in model


def test_the_built_in_model_needs_no_network(tmp_path, new_pipeline, forbid_network):
    """Made, loaded and drawn with while every way out is an error."""
    pipeline, ready = new_pipeline(load(data_dir=str(tmp_path)))
    assert pipeline.draw(command(forwards=1), ignore).forwards == 1
    assert (ready.model, ready.pipeline) == ("builtin", "ZImagePipeline")


def test_the_built_in_model_may_be_read_by_everybody(tmp_path):
    """A service of another user reads what this one made."""
    from consumer.gpu.builtin import ensure_builtin

    folder = ensure_builtin(tmp_path)
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert mode & wanted == wanted, path
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


class _HalfDone:
    """A model whose writing fails in the middle, or is overtaken by another process."""

    def __init__(self, others=None):
        self._others = others

    def save_pretrained(self, folder):
        (folder / "vae").mkdir()
        (folder / "model_index.json").write_text("half")
        if self._others is None:
            raise OSError("No space left on device")
        self._others.mkdir()
        (self._others / "model_index.json").write_text("theirs")


def test_the_built_in_model_is_made_once(tmp_path, monkeypatch):
    """A folder that is there is used as it is."""
    from consumer.gpu import builtin

    folder = builtin.ensure_builtin(tmp_path)
    monkeypatch.setattr(builtin, "make_builtin", lambda: pytest.fail("made again"))
    assert builtin.ensure_builtin(tmp_path) == folder


def test_a_built_in_model_that_could_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A full disk half-way leaves no folder that a later start would take for the model."""
    from consumer.gpu import builtin

    monkeypatch.setattr(builtin, "make_builtin", _HalfDone)
    with pytest.raises(OSError, match="No space left"):
        builtin.ensure_builtin(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_two_processes_may_make_the_built_in_model_at_once(tmp_path, monkeypatch):
    """The one that is second takes the first one's folder, and leaves nothing of its own."""
    from consumer.gpu import builtin

    theirs = tmp_path / "models" / f"builtin-{builtin.REVISION}"
    monkeypatch.setattr(builtin, "make_builtin", lambda: _HalfDone(theirs))
    assert builtin.ensure_builtin(tmp_path) == theirs
    assert (theirs / "model_index.json").read_text() == "theirs"
    assert list((tmp_path / "models").iterdir()) == [theirs]


def test_the_built_in_model_is_the_same_wherever_it_is_made(tmp_path, pipeline):
    """Two machines that make it draw the same pictures."""
    import torch

    from consumer.gpu.builtin import make_builtin

    torch.manual_seed(1)  # whatever happened before in the process
    made, loaded = make_builtin(), pipeline._pipe
    for part in ("transformer", "text_encoder", "vae"):
        ours = getattr(made, part).state_dict()
        for name, tensor in getattr(loaded, part).state_dict().items():
            assert torch.equal(tensor, ours[name]), name
