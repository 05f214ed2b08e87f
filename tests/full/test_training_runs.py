"""The training itself: goes on after a kill as if there had been none; ends in a real model."""

import copy

import pytest

from tests.training_runs import STEPS, finish, one_thread, start

_PARTS = ("codec", "encoder", "words", "flow", "few-step")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    finish(folder)
    return folder


def test_a_run_that_was_killed_ends_as_one_that_was_not(finished, tmp_path):
    """Killed in the middle of the flow and started again: the same weights, bit for bit."""
    import torch

    from training.learning import keeping

    with start(tmp_path) as process:
        for line in process.stdout:
            if line.startswith("flow") and "step 1" in line:
                process.kill()
                break
    assert process.returncode < 0
    assert not (tmp_path / "model").exists()
    finish(tmp_path)
    for phase in _PARTS:
        one, other = (keeping.load(f / f"{phase}.checkpoint") for f in (finished, tmp_path))
        assert one["steps"] == other["steps"] == STEPS
        for weights, same in zip(_tensors(one), _tensors(other), strict=True):
            assert torch.equal(weights, same), phase


def test_a_run_goes_on_with_its_own_settings_only(finished):
    """Another seed in the same folder is an error, and changes nothing."""
    from dataclasses import replace

    from training.learning.run import Run, run
    from training.learning.settings import PROOF

    with pytest.raises(ValueError, match="other settings"):
        run(Run(replace(PROOF, seed=8), finished, 480.0, STEPS))


def test_a_run_begins_with_the_weights_of_an_earlier_one(finished, tmp_path):
    """Its codec is taken over, its flow is where the words begin, and the export says so."""
    import json

    from training.learning.earlier import inherited
    from training.learning.run import MODEL

    finish(tmp_path, earlier=finished)
    kept = inherited(tmp_path)
    assert kept["steps"] == STEPS
    assert _same_codec(finished, tmp_path)
    told = json.loads((tmp_path / MODEL / "training.json").read_text())
    assert told["begun_from"]["steps"] == STEPS


def _same_codec(*folders):
    import torch

    from training.learning import keeping

    one, other = (_tensors(keeping.load(folder / "codec.checkpoint")) for folder in folders)
    return all(torch.equal(first, same) for first, same in zip(one, other, strict=True))


def test_weights_of_another_seed_or_of_no_run_are_refused(finished, tmp_path):
    from dataclasses import replace

    from training.learning.earlier import inherit
    from training.learning.settings import PROOF

    with pytest.raises(ValueError, match="another seed"):
        inherit(replace(PROOF, seed=8), finished, tmp_path / "one")
    with pytest.raises(ValueError, match="no run"):
        inherit(PROOF, tmp_path / "nothing", tmp_path / "other")


def test_the_codec_goes_on_where_it_was():
    """A learner that takes over another's state learns the next step as that one does."""
    import torch

    from training.learning.codec_phase import CodecLearner
    from training.learning.settings import PROOF

    one, other = CodecLearner(PROOF), CodecLearner(PROOF)
    with one_thread():
        one.step(0, 0.0)
        other.restore(copy.deepcopy(one.state()))
        assert one.step(1, 0.5) == other.step(1, 0.5)
    for weights, same in zip(_tensors(one.state()), _tensors(other.state()), strict=True):
        assert torch.equal(weights, same)


def _tensors(kept):
    import torch

    if isinstance(kept, torch.Tensor):
        return [kept]
    if isinstance(kept, dict):
        return [found for key in sorted(kept, key=str) for found in _tensors(kept[key])]
    if isinstance(kept, list | tuple):
        return [found for value in kept for found in _tensors(value)]
    return []


@pytest.mark.parametrize(("width", "height"), [(512, 512), (1280, 736)])
def test_the_model_draws_through_the_real_pipeline(finished, width, height):
    """What was exported loads without a network and draws at a square and at a wide size."""
    from training.evaluation.drawing import Model

    picture = Model(finished / "model").draw("a sunset over mountains", width, height, 7, 1)
    assert picture.shape == (3, height, width)
    assert picture.isfinite().all()


def test_1280x720_is_cropped_evenly(finished):
    """What is no multiple of 32 is the middle of the picture that is."""
    import torch

    from training.evaluation.drawing import Model

    model = Model(finished / "model")
    asked, larger = (model.draw("the sea", 288, height, 7, 1) for height in (272, 288))
    assert torch.equal(asked, larger[:, 8:-8])


def test_our_muon_moves_as_the_stock_one():
    """To what bfloat16, in which that one computes, leaves of a step; wide, tall, and two alike."""
    import torch

    from training.learning.optimizers import Muon

    torch.manual_seed(1)
    ours, theirs = [
        [torch.nn.Parameter(torch.zeros(shape)) for shape in ((48, 96), (96, 48), (48, 96))]
        for _ in range(2)
    ]
    one = Muon(ours, 4e-3)
    other = torch.optim.Muon(theirs, lr=4e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for mine, stock in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            stock.grad = mine.grad.clone()
        one.step()
        other.step()
    for mine, stock in zip(ours, theirs, strict=True):
        assert (mine - stock).norm() < 0.02 * stock.norm()


@pytest.mark.parametrize("length", [32, 64])
def test_the_forward_for_batches_equals_the_stock_one(length):
    """To 1e-5, for captions of unlike lengths and a picture whose tokens need filler."""
    import torch

    from training.model.sizes import LATENTS, TINY
    from training.model.transformer import make_transformer, passed

    torch.manual_seed(1)
    model = make_transformer(TINY).eval()
    counts = (length - 31, length - 5, length)
    latents, time = torch.randn(3, LATENTS, 6, 10), torch.tensor([0.1, 0.5, 0.9])
    text = torch.randn(3, length, TINY.text_width)
    known = torch.arange(length) < torch.tensor(counts)[:, None]
    with torch.no_grad():
        captions = [one[:count] for one, count in zip(text, counts, strict=True)]
        stock = model(list(latents.unsqueeze(2)), time, captions, return_dict=False)[0]
        found = passed(model, latents, time, text, known).direction
        apart = passed(model, latents, time, text, known, (2, 1)).direction
    assert not torch.allclose(apart, found, atol=1e-3)
    assert torch.allclose(found, torch.stack(stock).squeeze(2), atol=1e-5)


def test_the_encoder_reads_as_the_pipeline_does(finished):
    """Captions padded to 32 give the embeddings of the pipeline, which pads to 512."""
    import torch
    from diffusers import ZImagePipeline

    from training.model.text import encode, padded, tokens

    pipe = ZImagePipeline.from_pretrained(finished / "model", local_files_only=True)
    said = "A Red circle, qwxyz"
    found = tokens(pipe.tokenizer, [said])[0][:32]
    ids = torch.tensor([padded(found, 32, pipe.tokenizer.pad_token_id)])
    with torch.no_grad():
        theirs = pipe.encode_prompt([said], do_classifier_free_guidance=False)[0][0]
        ours = encode(pipe.text_encoder, ids)[0, : len(found)]
    assert torch.allclose(ours, theirs[: len(found)], atol=1e-5)


def test_the_schedule_is_the_schedulers_own(finished):
    """The few-step phase learns at the eight noise levels that the service's call gives."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from training.learning.flow_phase import schedule

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
        finished / "model", subfolder="scheduler"
    )
    scheduler.set_timesteps(sigmas=[1 - index / 8 for index in range(8)])
    assert torch.allclose(scheduler.sigmas, schedule(8), atol=1e-6)
