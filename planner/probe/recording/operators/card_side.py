"""The same operators in the engine of planner/step, by the names that torch_side.py gives them."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from planner.families.parts import Norm
from planner.gpu import Gpu, multiprocessors
from planner.memory import workspace
from planner.memory.row_sums import partial_sums
from planner.probe.recording.operators.lifetimes import Event
from planner.step import norms
from planner.step.attention import kernels
from planner.step.attention.softmax import softmax, softmax_in_float32
from planner.step.engine.cards import view_of
from planner.step.engine.events import Size
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, buffers_of, framed
from planner.step.engine.ops import (
    add,
    bmm,
    cast,
    clone,
    dropout,
    embedding_gradient,
    matmul,
    mul,
    parameter,
    relayout_gradient,
    row_sums_of,
    scale_in_place,
    semaphores_of,
    shift,
    square,
    unary,
)  # fmt: skip
from planner.step.engine.row_ops import column_at, gather, normalise, rows_at, scale_rows, sum_pairs, top_k
from planner.step.engine.slice_ops import concatenate, pad, piece, split
from planner.step.losses.full_logits import cross_entropy
from planner.step.recurrent.chunked_scan import clamp, cumulative, ends, masked, to_end
from planner.step.recurrent.short_convolution import filtered

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "int64": 8, "bool": 1}
_HALF: Dims = ("T", "half of h")

Operator = Callable[..., Any]


def _activation(saves: str) -> Operator:
    return lambda graph, x: unary(graph, x, saves=saves)


def _layer_norm(graph: Graph, x: Value, weight: Value, *_: Value) -> Value:
    return norms.layer_norm(graph, x, Norm("norm", "h", "layer"), weight.each if weight.edge else None)


def _embedding(graph: Graph, ids: Value, weight: Value) -> Value:
    dims, to_weight = (*ids.dims, weight.dims[-1]), weight.edge

    def backward(_: Buffer) -> Outcome:
        return ((to_weight, embedding_gradient(graph, weight.each, weight.dims, "embedding rows")),)

    edge = graph.node(backward, graph.save(ids)) if graph.needs(weight) else None
    out = Value(graph.new(weight.each, dims), weight.each, dims, edge)
    graph.release(*(() if edge else (ids,)))
    return out


@framed
def _causal_loss(graph: Graph, x: Value, labels: Value) -> Value:
    loss = cross_entropy(graph, x, one_sequence=False)
    graph.release(labels)
    return loss


@framed
def _written_out(graph: Graph, q: Value, k: Value, v: Value) -> Value:
    """Keys are read transposed, so that their gradient lies as they do."""
    q, v = relayout_gradient(graph, q), relayout_gradient(graph, v)
    return kernels.math(graph, (q, k, v), None, kernels.MemoryLayout(one_sequence=False))


@framed
def _masked_attention(graph: Graph, q: Value, k: Value, v: Value, mask: Value) -> Value:
    out = kernels.mem_efficient(graph, (q, k, v), mask, wide=False)
    graph.release(mask)
    return out


OPERATORS: Mapping[str, Operator] = {
    "cast, wider": lambda graph, x: cast(graph, x, 4),
    "cast, narrower": lambda graph, x: cast(graph, x, 2),
    "cast of a trained weight": lambda graph, x: cast(graph, x, 4),
    "clone": clone,
    "scale": _activation(""),
    "scale in place": lambda graph, x, _: scale_in_place(graph, x),
    "shift": shift,
    "silu": _activation("input"),
    "gelu": _activation("input"),
    "softplus": _activation("input"),
    "sigmoid": _activation("output"),
    "tanh": _activation("output"),
    "exp": _activation("output"),
    "square": square,
    "dropout": dropout,
    "transpose to heads": relayout_gradient,
    "add": add,
    "add, narrower and wider": add,
    "mul": mul,
    "mul, narrower and wider": mul,
    "mul by a constant": mul,
    "linear": lambda graph, x, w: matmul(graph, x, w, "o"),
    "linear, frozen": lambda graph, x, w: matmul(graph, x, w, "o"),
    "linear with a bias": lambda graph, x, w, b: matmul(graph, x, w, "o", bias=b.each if b.edge else 0),
    "bmm": lambda graph, x, y: bmm(graph, x, y, ("H", "s", "s")),
    "embedding": _embedding,
    "gather": gather,
    "rows at": lambda graph, x, index: rows_at(graph, x, index, (*index.dims, "h")),
    "column at": lambda graph, x: column_at(graph, x, ("T",)),
    "last column": ends,
    "sum of pairs": lambda graph, x: sum_pairs(graph, x, ("half of s", "h"), x.each),
    "repeat heads": lambda graph, x: kernels.repeat(graph, x, ("T", "2", "k")),
    "expand to heads": lambda graph, x: view_of(graph, x, ("T", "4", "d")),
    "convolution": lambda graph, x, w: filtered(graph, x, w, ("T conv", "h")),
    "convolution, frozen": lambda graph, x, w: filtered(graph, x, w, ("T conv", "h")),
    "clamp": clamp,
    "loss of a causal model": _causal_loss,
    "top_k": top_k,
    "normalise": normalise,
    "scale rows": scale_rows,
    "slice": lambda graph, x: piece(graph, x, _HALF),
    "concatenate": lambda graph, x, y: concatenate(graph, (x, y), ("T", "twice h")),
    "split": lambda graph, x: split(graph, x, (_HALF, _HALF)),
    "pad": lambda graph, x: pad(graph, x, ("T and 5 each", "h")),
    "layer norm, frozen": _layer_norm,
    "layer norm": _layer_norm,
    "mean of rows": norms.mean,
    "inverse root": norms.inverse_root_of,
    "times rows": norms.mul_rows,
    "times rows, narrower and wider": norms.mul_rows,
    "minus rows": norms.minus_rows,
    "weight times x": norms.scale_by_weight,
    "x times weight": lambda graph, x, w: norms.scale_by_weight(graph, x, w, weight_last=True),
    "softmax": softmax,
    "softmax in float32": lambda graph, x: softmax_in_float32(graph, x, float16=False),
    "softmax in float32 of float16": lambda graph, x: softmax_in_float32(graph, x, float16=True),
    "cumsum": cumulative,
    "masked_fill": lambda graph, x, mask: masked(graph, x, mask.buffer),
    "last column minus each": to_end,
    "flash attention": lambda graph, q, k, v: kernels.flash(graph, (q, k, v)),
    "flash attention, grouped": lambda graph, q, k, v: kernels.flash(graph, (q, k, v)),
    "memory-efficient attention": lambda graph, q, k, v: kernels.mem_efficient(graph, (q, k, v), None, wide=False),
    "memory-efficient attention with a mask": _masked_attention,
    "attention written out": _written_out,
}


def events_of(line: Mapping[str, Any], gpu: Gpu) -> list[Event]:
    """What the engine does for one line of torch_side.py: its operator, on tensors of its sizes."""
    graph, parts = Graph(), list[tuple[str, int]]()
    graph.recording = bool(line["trains"])

    def begin(part: str) -> None:
        parts.append((part, len(graph.events)))

    begin("inputs")
    values = [_given(graph, *tensor, trains=line["trains"]) for tensor in line["tensors"]]
    begin("forward")
    result = OPERATORS[line["operator"]](graph, *values)
    outputs = [result] if isinstance(result, Value) else list(result)
    graph.release(*{id(buffer): buffer for buffer in buffers_of(outputs)}.values())
    begin("gradients in")
    for out in outputs:
        if out.edge is not None:
            out.edge.put(graph.new(out.each, out.dims))
    begin("backward")
    graph.backward()
    sizes = _Sizes(line["dims"], gpu)
    ends = [start for _, start in parts[1:]] + [len(graph.events)]
    each = [sizes.bytes_of(buffer.size) for buffer in graph.made]  # torch makes no allocation of 0 bytes
    return [
        (part, max(number, ~number), each[number] if number >= 0 else 0)
        for (part, start), end in zip(parts, ends, strict=True)
        for number in graph.events[start:end]
        if each[max(number, ~number)]
    ]


def _given(graph: Graph, _: str, dims: Sequence[str], role: str, dtype: str, *, trains: bool) -> Value:
    each, dims = _BYTES[dtype], tuple(dims)
    if role in {"trained", "fixed"}:
        return parameter(each, dims, trained=trains and role == "trained")
    edge = graph.node(lambda _: ()) if role == "active" and trains else None
    return Value(graph.new(each, dims), each, dims, edge)


class _Sizes:
    """The number of every dimension at one size of torch_side.py."""

    def __init__(self, sizes: Mapping[str, int], gpu: Gpu) -> None:
        b, s, heads, d = sizes["b"], sizes["s"], sizes["H"], sizes["d"]
        tokens = b * s
        sums = {
            width: partial_sums(tokens, sizes[width], multiprocessors(gpu), gpu.compute_capability) for width in "ho"
        }
        self.numbers = {
            **sizes, "1": 1, "2": 2, "4": 4, "T+b": tokens + b, "T conv": b * (s + 3), "T and 5 each": b * (s + 5),
            "half of s": s // 2, "half of h": sizes["h"] // 2, "twice h": 2 * sizes["h"],
            "embedding rows": workspace.embedding_partial_rows(tokens, sizes["V"]),
            "embedding rows' indices": workspace.embedding_indices(tokens, sizes["V"]),
            "flash dq": workspace.flash_dq_elements(b, s, heads, d),
            "flash lse": workspace.flash_lse_elements(b, s, heads),
            "efficient lse": workspace.efficient_lse_elements(b, s, heads),
            "efficient work": workspace.efficient_workspace_elements(b, s, heads, d, gpu.compute_capability),
            "efficient float32 work": workspace.efficient_float32_elements(b, s, heads, d, gpu.compute_capability),
            **{row_sums_of(("T",), width): each.elements for width, each in sums.items()},
            **{semaphores_of(("T",), width): each.semaphores for width, each in sums.items()},
        }  # fmt: skip

    def bytes_of(self, size: Size) -> int:
        """Of one tensor."""
        return -(-size.num * prod(self.numbers[name] for name in size.dims) // size.den)
