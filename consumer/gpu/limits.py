"""The limits of the GPU child: what is called a hang, a broken GPU, or a child that grew too big."""

from dataclasses import dataclass

BREAKER_FAILURES = 5
"""Failures in a row, not all of one job, after which the GPU is taken for broken."""


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """How long, how often and how much."""

    job_timeout_s: float = 300.0
    """Of one picture, from the command to its pixels; no measure extends it."""
    step_floor_s: float = 30.0
    """A step or a stage is never called a hang sooner."""
    step_factor: float = 10.0
    """Beyond the floor, a step or stage may take so many times what it was measured to take."""
    defunct_exit_s: float = 300.0
    """So long without one good test picture, and the supervision gives up."""
    canary_every_s: float = 30.0
    """Between two test pictures on a GPU that is taken for broken."""
    recycle_bytes: int = 4 << 30
    """Growth of resident or GPU memory after which the child is replaced; 0 = never."""
