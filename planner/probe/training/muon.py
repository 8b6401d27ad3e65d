"""Muon as trainers run it: matrices by Newton and Schulz, embeddings, heads and vectors by AdamW, one after the other.

No package that the probe installs has the class: LLaMA-Factory and Axolotl ship Moonshot's (planner/tensors/muon.py has
the addresses), and torch.optim.Muon, which takes matrices alone, runs the iteration in fewer tensors. So its operations
stand here, in that class's order and with its variables, as those decide what is alive.
"""

from collections.abc import Callable, Iterable

import torch

from planner.tensors.muon import is_orthogonalized
from planner.tensors.trainable import Trainable

_MOMENTUM, _DECAY, _EPS = 0.95, 0.1, 1e-8
_ROUNDS, _COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Of `(name, parameter)`: which of both rules a parameter falls under is told by its name and shape."""

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], lr: float) -> None:
        pairs = list(named)
        super().__init__([parameter for _, parameter in pairs], {"lr": lr})
        takes = [
            is_orthogonalized(Trainable(name=name, shape=tuple(each.shape), count=1, itemsize_bytes=each.itemsize))
            for name, each in pairs
        ]
        self._matrices = [parameter for (_, parameter), taken in zip(pairs, takes, strict=True) if taken]
        self._rest = [parameter for (_, parameter), taken in zip(pairs, takes, strict=True) if not taken]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        loss = closure() if closure is not None else None
        rate = self.param_groups[0]["lr"]
        for parameter in self._matrices:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            state["momentum_buffer"].mul_(_MOMENTUM).add_(gradient)
            gradient = gradient.add(state["momentum_buffer"], alpha=_MOMENTUM)
            update = _orthogonalized(gradient)
            parameter.mul_(1 - rate * _DECAY)
            parameter.add_(update, alpha=-rate * 0.2 * max(parameter.shape) ** 0.5)
        for parameter in self._rest:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["moment1"], state["moment2"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            state["moment1"].lerp_(gradient, 0.1)
            state["moment2"].lerp_(gradient.square(), 0.05)
            gradient = state["moment1"] / (_EPS + state["moment2"].sqrt())
            parameter.mul_(1 - rate * _DECAY)
            parameter.add_(gradient, alpha=-rate)
        return loss


def _orthogonalized(gradient: torch.Tensor) -> torch.Tensor:
    first, second, third = _COEFFICIENTS
    matrix: torch.Tensor = gradient.bfloat16()
    if gradient.size(0) > gradient.size(1):
        matrix = matrix.T
    matrix = matrix / (matrix.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = matrix @ matrix.T
        polynomial = second * square + third * square @ square
        matrix = first * matrix + polynomial @ matrix
    return matrix.T if gradient.size(0) > gradient.size(1) else matrix

