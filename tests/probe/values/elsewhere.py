"""What operators answer where no kernel of the card runs: run with and without the rules by test_elsewhere.py."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.utils._pytree import tree_map

from tests.probe.values.laws import LAWS


def _step(x: list[torch.Tensor], y: list[torch.Tensor]) -> list[torch.Tensor]:
    """What optimizers and clipping do to lists in place."""
    torch._foreach_lerp_(x, y, 0.1)
    torch._foreach_mul_(x, 0.9)
    torch._foreach_addcmul_(x, y, y, 0.1)
    torch._foreach_addcdiv_(x, y, y, 0.1)
    torch._foreach_add_(x, y, alpha=2)
    torch._foreach_copy_(y, x)
    torch._foreach_zero_(y)
    return x


LISTS: dict[str, Callable[[list[torch.Tensor], list[torch.Tensor]], object]] = {
    "foreach in place": _step,
    "foreach of floats": lambda x, y: (torch._foreach_sqrt(x), torch._foreach_norm(x), torch._foreach_add(x, y)),
    "foreach to a power": lambda x, _: torch._foreach_pow(2.0, x),
}
FLOATS: dict[str, Callable[[torch.Tensor], object]] = {
    "numbers": lambda x: (x + 3.14159, x % 3.14159, x * 3.14159, 2 - x, 2**x, x // 0.3, x.fmod(0.3)),
    "choices": lambda x: (x.topk(2), x.argmax(-1), x.sort(), x.max(), x.max(-1)),
    "questions": lambda x: (x > 0.5, x.isnan(), x.isfinite().all(), x.bool().any()),
    "moved": lambda x: (x.to(torch.bfloat16), x.clone(), x.new_zeros(4).copy_(x[0]), x.cpu()),
    "masked": lambda x: (x.masked_fill(x > 0.5, 0.0), torch.where(x > 0.5, x, -1.0), x.tril()),
}


def told(result: Any) -> Any:
    """Everything about a result but where its memory is; the numbers too of those that have any."""

    def one(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        seen = [type(value).__name__, str(value.dtype), str(value.device), list(value.shape), list(value.stride())]
        return [*seen, value.tolist()] if type(value) is torch.Tensor and value.device.type == "cpu" else seen

    return tree_map(one, result)


def answers(kind: str) -> dict[str, Any]:
    """Each operator's answer, or its error's type, over tensors of `kind`: cpu, meta, fake-cuda or functional."""
    device, within = kind.rpartition("-")[2], FakeTensorMode() if kind.startswith("fake") else nullcontext()
    found = {}

    def ask(name: str, law: Callable[..., object], *args: Any) -> None:
        law = functionalize(law) if kind.startswith("functional") else law
        try:
            found[name] = repr(told(law(*args)))
        except Exception as error:  # the same refusal is an answer too
            found[name] = type(error).__name__

    with within:
        x, y = ((torch.arange(12, device=device).view(3, 4) * step) % 5 for step in (2, 3))
        for name, of_two in LAWS.items():
            ask(name, of_two, x, y)
        for name, of_one in FLOATS.items():
            for dtype in (torch.float32, torch.bfloat16):
                ask(f"{name} {dtype}", of_one, torch.linspace(0, 1, 12, device=device).view(3, 4).to(dtype))
        for name, of_lists in LISTS.items():
            ask(name, of_lists, *([torch.ones(n, 4, device=device) for n in (2, 3)] for _ in "xy"))
    return found
