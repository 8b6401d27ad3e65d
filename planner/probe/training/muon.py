"""Muon as trainers run it: matrices by Newton and Schulz, embeddings, heads and vectors by AdamW, one after the other.

No package that the probe installs has the class: LLaMA-Factory and Axolotl ship Moonshot's (planner/tensors/muon.py has
the addresses), and torch.optim.Muon, which takes matrices alone, runs the iteration in fewer tensors. So its operations
stand here, in that class's order and with its variables, as those decide what is alive.
"""

from collections.abc import Callable, Iterable

import torch

from planner.tensors.muon import ROUNDS, is_orthogonalized
from planner.tensors.trainable import Trainable

_MOMENTUM, _DECAY, _EPS, _BETAS = 0.95, 0.1, 1e-8, (0.9, 0.95)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Of `(name, parameter)`: which of both rules a parameter falls under is told by its name and shape."""

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], lr: float) -> None:
        pairs = list(named)
        super().__init__([parameter for _, parameter in pairs], {"lr": lr})
        self._matrices: list[torch.nn.Parameter] = []
        self._rest: list[torch.nn.Parameter] = []
        for name, each in pairs:
            tensor = Trainable(name=name, shape=tuple(each.shape), count=1, itemsize_bytes=each.itemsize)
            (self._matrices if is_orthogonalized(tensor) else self._rest).append(each)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # no overloads
        """One step of all parameters that have a gradient."""
        loss = closure() if closure is not None else None
        rate = self.param_groups[0]["lr"]
        for parameter in filter(_has_gradient, self._matrices):
            gradient = _gradient_of(parameter)
            momentum = self._kept(parameter, gradient, "momentum_buffer")
            momentum.mul_(_MOMENTUM).add_(gradient)
            gradient = gradient.add(momentum, alpha=_MOMENTUM)
            update = _orthogonalized(gradient)
            parameter.mul_(1 - rate * _DECAY)
            parameter.add_(update, alpha=-rate * 0.2 * max(parameter.shape) ** 0.5)
        for parameter in filter(_has_gradient, self._rest):
            gradient = _gradient_of(parameter)
            mean, square = (self._kept(parameter, gradient, name) for name in ("moment1", "moment2"))
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.lerp_(gradient.square(), 1 - _BETAS[1])
            gradient = mean / (_EPS + square.sqrt())
            parameter.mul_(1 - rate * _DECAY)
            parameter.add_(gradient, alpha=-rate)
        return loss

    def _kept(self, parameter: torch.nn.Parameter, gradient: torch.Tensor, name: str) -> torch.Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(gradient)
        kept: torch.Tensor = state[name]
        return kept


def _has_gradient(parameter: torch.nn.Parameter) -> bool:
    return parameter.grad is not None


def _gradient_of(parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None  # noqa: S101  _has_gradient
    return parameter.grad


def _orthogonalized(gradient: torch.Tensor) -> torch.Tensor:
    first, second, third = _COEFFICIENTS
    matrix: torch.Tensor = gradient.bfloat16()
    if gradient.size(0) > gradient.size(1):
        matrix = matrix.T
    matrix = matrix / (matrix.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = matrix @ matrix.T
        polynomial = second * square + third * square @ square
        matrix = first * matrix + polynomial @ matrix
    return matrix.T if gradient.size(0) > gradient.size(1) else matrix

