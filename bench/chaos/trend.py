"""The trend: whether a figure grows, by the least squares slope of the second half. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

BLOCKS = 10
LEAST_SAMPLES = 2 * BLOCKS
T_95 = 2.306
"""Student's t, two-sided 95 %, for 10 blocks less 2 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth of a figure per 1,000 jobs, with its 95 % confidence interval."""

    per_thousand: float
    low: float
    high: float


def slope(jobs: Sequence[float], figures: Sequence[float]) -> Slope:
    """Return the slope over the second half of the samples.

    Neighbouring samples are alike, which would make the interval too narrow: the line goes
    through the means of ten blocks.

    Raises:
        ValueError: with fewer than 20 samples.
    """
    if len(jobs) < LEAST_SAMPLES:
        raise ValueError("too few samples for a trend")
    half = len(jobs) // 2
    points = list(zip(_means(jobs[half:]), _means(figures[half:]), strict=True))
    middle_x, middle_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    grade = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    rest = sum((y - middle_y - grade * (x - middle_x)) ** 2 for x, y in points)
    error = T_95 * math.sqrt(rest / (BLOCKS - 2) / spread)
    return Slope(1000 * grade, 1000 * (grade - error), 1000 * (grade + error))


def _means(values: Sequence[float]) -> list[float]:
    """Return the means of ten blocks of nearly equal length."""
    edges = [len(values) * number // BLOCKS for number in range(BLOCKS + 1)]
    return [fmean(values[low:high]) for low, high in pairwise(edges)]
