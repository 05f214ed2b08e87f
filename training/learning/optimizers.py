"""Two optimizers and their rate: Muon for matrices inside the layers, AdamW for everything else."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_WARM_STEPS = 60
_LOWEST = 0.03


def rate(step: int, part: float, flat: float = 0.5) -> float:
    """Return the part of the full rate: warm up, stay, then fall in a line to the phase's end."""
    falling = 1.0 if part < flat else max(_LOWEST, (1 - part) / (1 - flat))
    return min(1.0, (step + 1) / _WARM_STEPS) * falling


class Pair:
    """Muon and AdamW over one set of named parameters."""

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], matrix_rate: float, other_rate: float
    ) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in named:
            inner = "layers." in name or "refiner." in name
            wanted = inner and parameter.ndim == 2 and "adaLN" not in name
            (matrices if wanted else others).append(parameter)
        self.parameters = [*matrices, *others]
        self._rates = (matrix_rate, other_rate)
        self._both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                matrices, lr=matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0),
        )

    def step(self, loss: Tensor, part_of_rate: float) -> None:
        """Learn from one loss."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, full in zip(self._both, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * part_of_rate
            optimizer.step()

    def state(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._both]

    def restore(self, state: list[dict[str, Any]]) -> None:
        for optimizer, kept in zip(self._both, state, strict=True):
            optimizer.load_state_dict(kept)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, steps: int, longest: float = 0.998) -> None:
    """Move the average of the weights a little towards the model."""
    weight = 1 - min(longest, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
