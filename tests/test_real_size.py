"""The bench's real-size model has the real model's numbers, and its sizes are the contract's."""

import pytest

from schemas.sizes import LISTED_SIZES


@pytest.fixture(scope="module")
def parts():
    """The three networks without memory behind them."""
    import torch

    from bench.real_size import components

    with torch.device("meta"):
        return components()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("transformer", 6_154_908_736), ("text_encoder", 4_022_468_096), ("vae", 83_819_683)],
)
def test_each_part_has_the_parameters_of_the_published_one(parts, name, parameters):
    """What is measured with random weights costs what the real model costs."""
    assert sum(weights.numel() for weights in parts[name].parameters()) == parameters


def test_every_listed_size_is_checked():
    """The check of an accelerator runs without the contract, so it has a list of its own."""
    from bench.gpu_check import SIZES

    assert SIZES == LISTED_SIZES
