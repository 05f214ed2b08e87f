"""The bench's real-size model has the real model's numbers, and its sizes are the contract's."""

import pytest
import torch

from bench.gpu_check import SIZES
from bench.real_size import PARAMETERS, components
from schemas.sizes import LISTED_SIZES


@pytest.fixture(scope="module")
def parts():
    with torch.device("meta"):
        return components()


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_part_has_the_parameters_of_the_published_one(parts, name):
    """What is measured with random weights costs what the real model costs."""
    counted = sum(weights.numel() for weights in parts[name].parameters())
    assert counted == PARAMETERS[name]


def test_every_listed_size_is_checked():
    """The check runs without the contract, so it has a list of its own."""
    assert set(SIZES) == set(LISTED_SIZES)
