"""Two optimizers and their rate: Muon for matrices inside the layers, AdamW for everything else."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

_WARM_STEPS = 60
_LOWEST = 0.03


def rate(step: int, part: float, flat: float = 0.5) -> float:
    """Return the part of the full rate: warm up, stay, then fall in a line to the phase's end."""
    falling = 1.0 if part < flat else max(_LOWEST, (1 - part) / (1 - flat))
    return min(1.0, (step + 1) / _WARM_STEPS) * falling


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: steps of the size of AdamW's in every direction of a matrix.

    As `torch.optim.Muon` with `match_rms_adamw`, which computes in bfloat16; a CPU that has none
    emulates it, and half of a step's time went there. Source of the method and of the three
    numbers: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; of
    the size: Liu et al., "Muon is scalable for LLM training", 2025.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": 0.95, "weight_decay": 0.01})

    @torch.no_grad()
    @override
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient, all of one shape at once."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for alike in shapes.values():
                self._move(alike, group)

    def _move(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        seen = []
        for matrix in matrices:
            grad = cast("Tensor", matrix.grad)
            held = self.state[matrix].setdefault("held", torch.zeros_like(matrix))
            held.lerp_(grad, 1 - group["momentum"])
            seen.append(torch.lerp(grad, held, group["momentum"]))
        size = group["lr"] * 0.2 * max(matrices[0].shape) ** 0.5
        for matrix, way in zip(matrices, orthogonal(torch.stack(seen)), strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(way, alpha=-size)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return about the nearest matrices whose singular values are all 1 (0.7..1.2), in float32.

    `matrices` n x rows x columns: together they cost half of what they do one by one.
    """
    first, second, third = 3.4445, -4.775, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = (matrices.mT if tall else matrices).float()
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        square = found @ found.mT
        turn = torch.baddbmm(square, square, square, beta=second, alpha=third)
        found = torch.baddbmm(found, turn, found, beta=first)
    return found.mT if tall else found


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
            Muon(matrices, matrix_rate),
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
