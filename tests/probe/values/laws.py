"""Whole-number operators against the CPU: run on a virtual card by test_whole_numbers.py."""

from collections.abc import Callable

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WHOLE = [torch.int64, torch.int32, torch.int16, torch.bool, torch.uint8]
Law = Callable[[torch.Tensor, torch.Tensor], object]

# Each is an operator of two tensors of one shape (the second may be another type); most use the first only.
LAWS: dict[str, Law] = {
    "add": lambda x, y: x + y,
    "add a number": lambda x, _: x.long() + 3,
    "subtract": lambda x, y: x.int() - y.int(),
    "multiply": lambda x, y: x * y,
    "divide down": lambda x, _: x.long() // 3,
    "remainder": lambda x, _: x.long() % 3,
    "number first": lambda x, _: 7 - x.long(),
    "negate": lambda x, _: -x.long(),
    "absolute": lambda x, _: x.long().abs(),
    "power": lambda x, _: x.long() ** 2,
    "clamp": lambda x, _: x.long().clamp(1, 3),
    "larger": torch.maximum,
    "and or": lambda x, y: (x.bool() & ~y.bool()) | (x.bool() ^ y.bool()),
    "shift": lambda x, _: x.long() << 2,
    "compare": lambda x, y: (x >= y) | (x == 2) | (y != 0.0),
    "logical": lambda x, y: torch.logical_and(x, torch.logical_not(y)),
    "where": lambda x, y: torch.where(x > y, x, y),
    "where a number": lambda x, y: torch.where(x > y, x.long(), -100),
    "masked fill": lambda x, y: x.long().masked_fill(y.bool(), -100),
    "masked fill in place": lambda x, y: x.long().clone().masked_fill_(y.bool(), 5),
    "in place": lambda x, y: x.long().clone().add_(y).mul_(2).sub_(1),
    "sum": lambda x, _: (x.sum(), x.sum(-1), x.sum(0, keepdim=True)),
    "count": lambda x, _: (x.count_nonzero(), x.any(), x.all(), x.any(-1)),
    "cumulative": lambda x, _: (x.cumsum(-1), x.long().cumprod(0), x.cummax(-1)),
    "extremes": lambda x, _: (
        x.long().max(),
        x.long().max(-1),
        x.long().min(0),
        x.long().argmax(-1),
        x.long().amax(-1),
    ),
    "sorted": lambda x, _: (
        x.sort(dim=-1, stable=True),
        x.long().argsort(dim=-1, stable=True),
        x.long().topk(1).values,
    ),
    "unique": lambda x, _: x.unique(return_inverse=True, return_counts=True),
    "runs": lambda x, _: x.unique_consecutive(),
    "positions": lambda x, _: (x.nonzero(), torch.where(x), torch.argwhere(x)),
    "selected": lambda x, y: (x[y.bool()], x.masked_select(y.bool())),
    "assigned": lambda x, y: x.long().clone().index_put_((y.bool(),), torch.tensor(9, device=x.device)),
    "joined": lambda x, y: (torch.cat([x, y], 0), torch.stack([x, y], -1)),
    "shaped": lambda x, _: (x.flip(0), x.roll(1, -1), x.repeat(2, 1), x.t().contiguous(), x.tril(), x.triu(1)),
    "padded": lambda x, _: torch.nn.functional.pad(x.long(), (1, 2), value=-100),
    "one hot": lambda x, _: torch.nn.functional.one_hot(x.long().abs() % 4, 4),
    "gathered": lambda x, y: x.gather(-1, y.long().abs() % x.shape[-1]),
    "scattered": lambda x, y: torch.zeros_like(x, dtype=torch.int64).scatter_add_(
        -1, y.long().abs() % x.shape[-1], x.long()
    ),
    "index": lambda x, y: (
        x[:, 0],
        x.index_select(0, y.flatten()[:1].long() * 0),
        x[y.long()[:, 0].abs() % x.shape[0]],
    ),
    "counted": lambda x, _: x.flatten().long().abs().bincount(minlength=4),
    "repeated": lambda x, _: x.flatten().repeat_interleave(x.flatten().long().abs()),
    "places": lambda x, y: torch.searchsorted(x.flatten().long().sort().values, y.flatten().long()),
    "member": lambda x, y: torch.isin(x.long(), y.long().flatten()[:2]),
    "cast": lambda x, _: (x.to(torch.int32), x.to(torch.bool), x.to(torch.uint8), x.cpu(), x.clone()),
    "made": lambda x, _: (torch.arange(3, 9, 2, device=x.device), torch.full_like(x, 1), x.new_zeros(3), x.new_ones(2)),
    "triangle": lambda x, _: torch.ones(4, 4, device=x.device, dtype=torch.bool).tril(),
    "indices": lambda x, _: torch.tril_indices(3, 4, device=x.device),
    "out": lambda x, y: torch.add(x.long(), y.long(), out=torch.empty(0, dtype=torch.int64, device=x.device)),
    "foreach": lambda x, y: torch._foreach_add([x.long(), y.long()], 2),
    "lists in place": lambda x, _: _foreach_in_place(x.long().clone()),
    "item": lambda x, _: (x.flatten()[0].item(), x.tolist(), torch.equal(x, x)),
}


def _foreach_in_place(x: torch.Tensor) -> torch.Tensor:
    torch._foreach_add_([x], 1)
    torch._foreach_mul_([x], 3)
    return x


@st.composite
def pairs(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of one shape and type; transposed, strided and offset views among them."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from(WHOLE))
    return _tensor(draw, rows, columns, dtype), _tensor(draw, rows, columns, dtype)


def _tensor(draw: st.DrawFn, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    numbers = st.integers(0, 5)
    step = draw(st.integers(1, 2))
    values = draw(st.lists(numbers, min_size=rows * columns * step, max_size=rows * columns * step))
    if draw(st.booleans()):
        return torch.tensor(values, dtype=dtype).view(columns, rows * step)[:, ::step].t()
    return torch.tensor(values, dtype=dtype).view(rows, columns * step)[:, step - 1 :: step]


def on_card(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with the same strides on the card."""
    card = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")
    return card.copy_(x)


def same(card: object, cpu: object) -> bool:
    """Equal in value, type and shape, as deep as results nest."""
    if isinstance(cpu, torch.Tensor):
        assert isinstance(card, torch.Tensor)
        return card.dtype == cpu.dtype and card.shape == cpu.shape and card.tolist() == cpu.tolist()
    if isinstance(cpu, (list, tuple)):
        assert isinstance(card, (list, tuple))
        return len(card) == len(cpu) and all(map(same, card, cpu))
    return card == cpu


def broken(examples: int) -> dict[str, str]:
    """Laws that do not hold, with the first difference."""
    failures: dict[str, str] = {}
    for name, law in LAWS.items():
        try:
            _hold(law, examples)
        except Exception as error:  # whatever it is, it is the answer
            failures[name] = f"{type(error).__name__}: {error}"[:600]
    return failures


def _hold(law: Law, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pairs())
    def holds(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        cpu, card = law(*pair), law(*map(on_card, pair))
        assert same(card, cpu), f"{pair} gave {card}, not {cpu}"

    holds()
