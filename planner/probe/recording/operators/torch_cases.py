"""The operators that are recorded: how torch is asked for each, with which tensors, and at which sizes.

Imports torch alone, so that any Python that has it can record them; with releases from 2.6 on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

# Numbers that differ, so that the bytes of a tensor tell its dimensions; the second has sums over many rows.
SIZES = (
    {
        "b": 2,
        "s": 136,
        "h": 328,
        "o": 424,
        "H": 4,
        "K": 2,
        "d": 64,
        "E": 12,
        "top": 3,
        "V": 1016,
        "chunks": 3,
        "chunk": 56,
    },
    {
        "b": 2,
        "s": 1096,
        "h": 1304,
        "o": 712,
        "H": 6,
        "K": 3,
        "d": 64,
        "E": 20,
        "top": 5,
        "V": 3032,
        "chunks": 9,
        "chunk": 136,
    },
)
NARROW, WIDE = "bfloat16", "float32"
BOTH = (NARROW, WIDE)


class Tensor(NamedTuple):
    """One that an operator is given: its dimensions, its dtype (None: that of the case), and what becomes of it.

    `role`: "active" has a gradient that goes on, "trained" is a weight that keeps its own, "fixed" one that has none,
    "constant" is anything else without one. T is b sequences of s.
    """

    name: str
    dims: tuple[str, ...]
    role: str = "active"
    dtype: str | None = None


class Case(NamedTuple):
    """An operator with its tensors, in each of `dtypes`."""

    name: str
    run: Callable[..., Any]
    tensors: tuple[Tensor, ...]
    dtypes: tuple[str, ...] = BOTH


def _active(name: str, dims: str, dtype: str | None = None) -> Tensor:
    return Tensor(name, tuple(dims.split()), "active", dtype)


def _trained(name: str, dims: str) -> Tensor:
    return Tensor(name, tuple(dims.split()), "trained")


def _fixed(name: str, dims: str) -> Tensor:
    return Tensor(name, tuple(dims.split()), "fixed")


def _constant(name: str, dims: str, dtype: str | None = None) -> Tensor:
    return Tensor(name, tuple(dims.split()), "constant", dtype)


X = _active("x", "T h")
_GAIN = _trained("w", "h")
_WEIGHT = _trained("w", "o h")


def _heads(x: torch.Tensor, d: int) -> torch.Tensor:
    """(b, s, H·d) as (b, H, s, d)."""
    return x.view(*x.shape[:-1], -1, d).transpose(1, 2)


def _normalise(x: torch.Tensor) -> torch.Tensor:
    x /= x.sum(dim=-1, keepdim=True)
    return x


def _flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return _attention(q, k, v, SDPBackend.FLASH_ATTENTION)


def _efficient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return _attention(q, k, v, SDPBackend.EFFICIENT_ATTENTION)


def _masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        out = functional.scaled_dot_product_attention(_heads(q, 64), _heads(k, 64), _heads(v, 64), mask[:, None])
    return out.transpose(1, 2).flatten(2)


def _written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return _attention(q, k, v, SDPBackend.MATH)


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: Any) -> torch.Tensor:
    grouped = k.shape != q.shape
    with sdpa_kernel(backend):
        out = functional.scaled_dot_product_attention(
            _heads(q, 64), _heads(k, 64), _heads(v, 64), is_causal=True, enable_gqa=grouped
        )
    return out.transpose(1, 2).flatten(2)


def _repeated(x: torch.Tensor) -> torch.Tensor:
    """transformers' `repeat_kv`, two query heads for each."""
    return x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(x.shape[0], -1, *x.shape[2:])


def _convolution(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A filter of four tokens per channel."""
    return functional.conv1d(x.transpose(1, 2), weight[:, None], padding=3, groups=x.shape[-1])


def _causal_loss(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """transformers' `ForCausalLMLoss`."""
    x = x.float()
    labels = functional.pad(labels, (0, 1), value=-100)
    shifted = labels[..., 1:].contiguous()
    return functional.cross_entropy(x.view(-1, x.shape[-1]), shifted.view(-1), reduction="sum") / 3


_QKV = (_active("q", "T q"), _active("k", "T q"), _active("v", "T q"))
_GROUPED = (_active("q", "T q"), _active("k", "T k"), _active("v", "T k"))

CASES = (
    Case("cast, wider", lambda x: x.float(), (X,), (NARROW,)),
    Case("cast, narrower", lambda x: x.bfloat16(), (X,), (WIDE,)),
    Case("cast of a trained weight", lambda w: w.float(), (_WEIGHT,), (NARROW,)),
    Case("clone", lambda x: x.clone(), (X,)),
    Case("scale", lambda x: x * 0.5, (X,)),
    Case("scale in place", lambda x, y: x.mul_(y), (X, _fixed("y", ""))),
    Case("shift", lambda x: x + 1.0, (X,)),
    Case("silu", functional.silu, (X,)),
    Case("gelu", functional.gelu, (X,)),
    Case("softplus", functional.softplus, (X,)),
    Case("sigmoid", torch.sigmoid, (X,)),
    Case("tanh", torch.tanh, (X,)),
    Case("exp", torch.exp, (X,)),
    Case("square", lambda x: x.pow(2), (X,)),
    Case("dropout", lambda x: functional.dropout(x, 0.1, training=True), (X,)),
    Case("transpose to heads", lambda x: _heads(x, 8), (X,)),
    Case("add", torch.add, (X, X._replace(name="y"))),
    Case("add, narrower and wider", torch.add, (X, _active("y", "T h", WIDE)), (NARROW,)),
    Case("mul", torch.mul, (X, X._replace(name="y"))),
    Case("mul, narrower and wider", torch.mul, (X, _active("y", "T h", WIDE)), (NARROW,)),
    Case("mul by a constant", torch.mul, (X, _constant("y", "T h"))),
    Case("linear", functional.linear, (X, _WEIGHT)),
    Case("linear, frozen", functional.linear, (X, _fixed("w", "o h"))),
    Case("linear with a bias", functional.linear, (X, _WEIGHT, _trained("bias", "o"))),
    Case("bmm", torch.bmm, (_active("x", "H s d"), _active("y", "H d s"))),
    Case("embedding", functional.embedding, (_constant("ids", "T", "int64"), _trained("w", "V h"))),
    Case("gather", lambda x, i: x.gather(-1, i), (_active("x", "T E"), _constant("i", "T top", "int64"))),
    Case("rows at", lambda x, i: x[i], (_active("x", "V h"), _constant("i", "s", "int64"))),
    Case("column at", lambda x: x[..., [0]], (X,)),
    Case("last column", lambda x: x[..., -1, :], (_active("x", "b chunks chunk H"),), (WIDE,)),
    Case("sum of pairs", lambda x: x.view(-1, 2, x.shape[-1]).sum(dim=1), (_active("x", "s h"),)),
    Case("repeat heads", _repeated, (_active("x", "b K s d"),)),
    Case("expand to heads", lambda x: x.view(*x.shape[:2], 1, -1).expand(-1, -1, 4, -1), (_active("x", "T d"),)),
    Case("convolution", _convolution, (_active("x", "T h"), _trained("w", "h 4")), (WIDE, NARROW)),
    Case("convolution, frozen", _convolution, (_active("x", "T h"), _fixed("w", "h 4")), (WIDE, NARROW)),
    Case("clamp", lambda x: x.clamp(0.0, 1.0), (X,)),
    Case("loss of a causal model", _causal_loss, (_active("x", "T V"), _constant("labels", "T", "int64"))),
    Case("top_k", lambda x: torch.topk(x, x.shape[-1] // 4), (_active("x", "T E"),)),
    Case("normalise", _normalise, (_active("x", "T E"),), (WIDE,)),
    Case("scale rows", lambda x, f: x * f[..., None], (X, _active("f", "T"))),
    Case("slice", lambda x: x[..., : x.shape[-1] // 2], (X,)),
    Case("concatenate", lambda x, y: torch.cat((x, y), dim=-1), (X, X._replace(name="y"))),
    Case("split", lambda x: x.chunk(2, dim=-1), (X,)),
    Case("pad", lambda x: functional.pad(x, (0, 0, 0, 5)), (X,)),
    Case("layer norm, frozen", lambda x, w: functional.layer_norm(x, (x.shape[-1],), w), (X, _fixed("w", "h"))),
    Case("layer norm", lambda x, w, b: functional.layer_norm(x, (x.shape[-1],), w, b), (X, _GAIN, _trained("b", "h"))),
    Case("mean of rows", lambda x: x.mean(-1, keepdim=True), (X,)),
    Case("inverse root", lambda x: torch.rsqrt(x + 1e-6), (_active("x", "T 1"),), (WIDE,)),
    Case("times rows", lambda x, r: x * r, (X, _active("r", "T 1"))),
    Case("times rows, narrower and wider", lambda x, r: x * r, (X, _active("r", "T 1", WIDE)), (NARROW,)),
    Case("minus rows", lambda x, r: x - r, (X, _active("r", "T 1"))),
    Case("weight times x", lambda x, w: w * x, (X, _GAIN)),
    Case("x times weight", lambda x, w: x * w, (X, _GAIN)),
    Case("softmax", lambda x: x.softmax(-1), (X,)),
    Case("softmax in float32", lambda x: x.softmax(-1, dtype=torch.float32), (X,), (NARROW,)),
    Case("softmax in float32 of float16", lambda x: x.softmax(-1, dtype=torch.float32), (X,), ("float16",)),
    Case("cumsum", lambda x: x.cumsum(-1), (X,), (WIDE,)),
    Case("masked_fill", lambda x, m: x.masked_fill(m, 0.0), (X, _constant("m", "T h", "bool")), (WIDE,)),
    Case("last column minus each", lambda x: x[..., -1:, :] - x, (_active("x", "b chunks chunk H"),), (WIDE,)),
    Case("flash attention", _flash, _QKV, (NARROW,)),
    Case("flash attention, grouped", _flash, _GROUPED, (NARROW,)),
    Case("memory-efficient attention", _efficient, _QKV),
    Case("memory-efficient attention with a mask", _masked, (*_QKV, _constant("m", "b s s", "bool"))),
    Case("attention written out", _written_out, _QKV, (NARROW,)),
)


def shape_of(tensor: Tensor, sizes: dict[str, int]) -> tuple[int, ...]:
    """Its shape: T is two dimensions."""
    known = {**numbers_of(sizes), "1": 1, "4": 4}
    return tuple(n for name in tensor.dims for n in ((sizes["b"], sizes["s"]) if name == "T" else (known[name],)))


def numbers_of(sizes: dict[str, int]) -> dict[str, int]:
    """The dimensions by which bytes are told: tokens, and the columns of all query and of all key heads among them."""
    return {"T": sizes["b"] * sizes["s"], **sizes, "q": sizes["H"] * sizes["d"], "k": sizes["K"] * sizes["d"]}
