"""The models of the diffusion pipeline: other classes, and what is refused at the start."""

import json

import numpy as np
import pytest

from consumer.gpu.pipeline import LoadError, PromptTooLongError
from tests.diffusing import command, ignore, load, tiles_decoded


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
    assert ready.steps_per_forward_less == 0
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


def test_another_class_draws_in_tiles(other, monkeypatch):
    """The decoder of any other pipeline that can do it does it too."""
    pipeline, _ = other
    sizes = tiles_decoded(monkeypatch, pipeline)
    drawn = pipeline.draw(command("a", (768, 512), forwards=1, tiled=True), ignore)
    assert drawn.pixels.shape == (512, 768, 3)
    assert max(max(size) for size in sizes) == 512


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
        new_pipeline(load("builtin", device=device))
    assert "set IMAGE_GEN_DEVICE=cpu" in str(caught.value)
    assert caught.value.permanent
