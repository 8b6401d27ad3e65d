"""Whole numbers born of floats: valid, balanced over what they may name, and the same at every call (seeded).

The same call must give the same answer: gradient checkpointing runs a router again in the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch

from .computed import computed
from .host import host, is_true, tensors
from .kernels import Kernel, Original, Rule, written


@dataclass(frozen=True)
class Choice:
    """How made-up choices fall: `seed` orders the candidates; `skewed` lets every row choose the same ones."""

    seed: int
    skewed: bool


@lru_cache(maxsize=64)
def _order(seed: int, n: int) -> torch.Tensor:
    return torch.randperm(n, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")


def choose(rows: int, k: int, n: int, choice: Choice) -> torch.Tensor:
    """`rows` x `k` distinct candidates of `n` (k <= n), int64: even over all rows, or the same k for each.

    Even means that how often two candidates are chosen differs by at most one.
    """
    order = _order(choice.seed, n)
    if choice.skewed:
        return order[:k].expand(rows, k)
    return order[torch.arange(rows * k, device="cpu").remainder_(n)].view(rows, k)


def place(target: torch.Tensor, size: int, dim: int, choice: Choice) -> None:
    """Fill an index tensor: `size` candidates, distinct along `dim`, each other position a row of its own."""
    if not is_true(target) or not target.numel():
        return
    if target.dim() == 0:
        host(target).copy_(choose(1, 1, size, choice)[0, 0])
        return
    last = host(target).movedim(dim, -1)
    k = last.shape[-1]
    last.copy_(choose(prod(last.shape[:-1]), k, size, choice).view(last.shape))


def _made_up(fill: Callable[[Any, list[torch.Tensor], dict[str, Any]], None]) -> Rule:
    """A rule: computed where the first argument is whole, otherwise the card's kernel and then `fill`.

    `fill` takes the operator's first tensor, the results and the other arguments by name.
    """

    def rule(op: torch._ops.OpOverload, original: Original) -> Kernel:
        whole = computed(op, original)
        names = [argument.name for argument in op._schema.arguments]
        defaults = {a.name: a.default_value for a in op._schema.arguments if a.has_default_value()}
        outs = written(op)

        def kernel(*args: Any, **kwargs: Any) -> Any:
            if not (args[0].is_floating_point() or args[0].is_complex()):
                return whole(*args, **kwargs)
            result = original(*args, **kwargs)
            named = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
            filled = [named[name] for name in outs] or tensors(result)
            fill(args[0], filled, named)
            return result

        return kernel

    return rule


def chosen(choice: Choice) -> Rule:
    """topk, max and min with indices, median, mode, kthvalue: indices along `dim`, distinct in a row.

    The indices are the last result; `keepdim=False` has taken their dimension away, so that each has its own row.
    """

    def fill(source: torch.Tensor, results: list[torch.Tensor], named: dict[str, Any]) -> None:
        if "dim" not in named:  # `x.max()` is a float
            return
        if not source.dim():
            host(results[-1]).fill_(0)
            return
        dim = named["dim"] % source.dim()
        kept = results[-1].dim() == source.dim()
        indices = results[-1] if kept else results[-1].unsqueeze(dim)
        place(indices, source.shape[dim], dim, choice)

    return _made_up(fill)


def extreme(choice: Choice) -> Rule:
    """argmax and argmin: as `chosen`; without `dim` one position of the whole tensor."""

    def fill(source: torch.Tensor, results: list[torch.Tensor], named: dict[str, Any]) -> None:
        dim = named.get("dim")
        if dim is None or not source.dim():
            host(results[0]).copy_(choose(1, 1, max(1, source.numel()), choice)[0, 0])
            return
        kept = results[0].dim() == source.dim()
        place(results[0] if kept else results[0].unsqueeze(dim % source.dim()), source.shape[dim], dim, choice)

    return _made_up(fill)


def ordered(choice: Choice) -> Rule:
    """sort and argsort: the same permutation of each row."""

    def fill(source: torch.Tensor, results: list[torch.Tensor], named: dict[str, Any]) -> None:
        if not source.dim():
            host(results[-1]).fill_(0)
            return
        place(results[-1], source.shape[named["dim"]], named["dim"], Choice(choice.seed, skewed=True))

    return _made_up(fill)


def sampled(choice: Choice) -> Rule:
    """multinomial: categories even over all draws, distinct in a row, whatever the routing."""

    def fill(source: torch.Tensor, results: list[torch.Tensor], _named: dict[str, Any]) -> None:
        draws, n = results[0], source.shape[-1]
        if is_true(draws) and draws.numel():
            order = _order(choice.seed, n)
            host(draws).copy_(order[torch.arange(draws.numel(), device="cpu").remainder_(n)].view(draws.shape))

    return _made_up(fill)


def positions(choice: Choice) -> Rule:
    """searchsorted and bucketize with a float among their inputs: places in range, one after another."""

    def rule(op: torch._ops.OpOverload, original: Original) -> Kernel:
        whole = computed(op, original)
        sequence = 0 if "searchsorted" in op._schema.name else 1

        def kernel(*args: Any, **kwargs: Any) -> Any:
            floats = any(t.is_floating_point() for t in tensors(list(args)))
            if not (floats or isinstance(args[1 - sequence], float)):
                return whole(*args, **kwargs)
            result = original(*args, **kwargs)
            places = args[sequence].shape[-1] + 1
            if is_true(result):
                count = torch.arange(choice.seed, choice.seed + result.numel(), device="cpu")
                host(result).copy_(count.remainder_(places).view(result.shape))
            return result

        return kernel

    return rule


def first(_choice: Choice) -> Rule:
    """Pooling's and cummax's indices of floats: the first element, which every window holds."""

    def fill(_source: torch.Tensor, results: list[torch.Tensor], _named: dict[str, Any]) -> None:
        if is_true(results[-1]):
            host(results[-1]).fill_(0)

    return _made_up(fill)
