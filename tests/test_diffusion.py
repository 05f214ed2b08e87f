"""The diffusion pipeline: the real diffusers code, with a tiny model, on a CPU."""

import numpy as np
import pytest

from consumer.gpu.pipeline import (
    Drawn,
    NanOutputError,
    PromptTooLongError,
    StopDrawingError,
    checked,
)
from schemas.sizes import LISTED_SIZES
from tests.diffusing import command, ignore

# ---------------------------------------------------------------- steps


def test_nine_steps_are_eight_forwards(loaded):
    """The model card's 9 runs the transformer 8 times, counted, and tells of 8 steps."""
    pipeline, ready = loaded
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


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (33, 17)], ids=str)
def test_what_no_latent_fits_is_the_middle_of_what_one_does(pipeline, size):
    """A model that draws multiples of 16 draws the next larger picture; its edges are cut alike."""
    wide, tall = (-(-side // 16) * 16 for side in size)
    asked = pipeline.draw(command(size=size, forwards=2), ignore).pixels
    whole = pipeline.draw(command(size=(wide, tall), forwards=2), ignore).pixels
    left, top = (wide - size[0]) // 2, (tall - size[1]) // 2
    assert np.array_equal(asked, whole[top : top + size[1], left : left + size[0]])
    assert asked.flags.c_contiguous


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


@pytest.mark.parametrize(
    "pixels",
    [np.ones((8, 8, 3), np.float32), np.ones((8, 8, 4), np.uint8), np.ones((8, 8), np.uint8)],
    ids=["float32", "four channels", "no channels"],
)
def test_pixels_of_another_kind_are_no_picture(pixels):
    """What would break the frame is a defect of the pipeline, told before it is sent."""
    with pytest.raises(TypeError, match="a picture of"):
        checked(Drawn(pixels, 8, {}))
