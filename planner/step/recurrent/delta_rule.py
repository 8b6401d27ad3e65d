"""The gated delta rule in chunks of 64 tokens, as transformers writes it in plain torch, operator by operator.

Source: transformers 5.23 models/qwen3_5/modeling_qwen3_5.py, torch_chunk_gated_delta_rule, which runs unless the
package flash-linear-attention is installed. Everything is float32; autocast casts the sides of its products.
"""

from typing import NamedTuple

from planner.step.attention.kernels import product
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import cast, clone, mul, unary, view
from planner.step.engine.slice_ops import pad
from planner.step.norms import inverse_root_of, mul_rows
from planner.step.recurrent.chunked_scan import cumulative, ends, masked, to_end
from planner.step.recurrent.delta_scan import Scanned, scan

RULE = "linear attention: chunked gated delta rule"
ROWS = ("TC", "Hv")
PAIRS = ("TC", "Hv", "chunk")
_KEYS, _VALUES = ("TC", "Hv", "dk"), ("TC", "Hv", "dv")


class Inputs(NamedTuple):
    """Queries, keys and values of all tokens, how much the state decays, and how much of a value is learnt."""

    q: Value
    k: Value
    v: Value
    decay: Value
    beta: Value


@framed
def delta_rule(graph: Graph, inputs: Inputs, autocast: int) -> Value:
    """The attended values, in the dtype of the queries. Names live as long as those of the code this follows."""
    with graph.cause(RULE):
        (q, k, v), beta = graph.hold(_wide(graph, inputs))
        q = graph.replace(q, _l2_norm(graph, q))
        k = graph.replace(k, _l2_norm(graph, k))
        q = graph.replace(q, unary(graph, q))
        qkv = [pad(graph, q, _KEYS), pad(graph, k, _KEYS), pad(graph, v, _VALUES)]
        graph.release(q, k, v)
        rows = (pad(graph, beta, ROWS), pad(graph, inputs.decay, ROWS))
        graph.release(beta)
        return _chunks(graph, graph.move(qkv), rows, inputs.q.each, autocast)


@framed
def _wide(graph: Graph, inputs: Inputs) -> tuple[list[Value], Value]:
    """All in float32, key heads repeated where each serves several value heads."""
    wide = graph.hold([_repeated(graph, x) if x.dims[-1] == "key" else x for x in (inputs.q, inputs.k)])
    return [cast(graph, x, 4) for x in (*wide, inputs.v)], cast(graph, inputs.beta, 4)


def _repeated(graph: Graph, x: Value) -> Value:
    """`repeat_interleave`; the gradient is summed over the heads."""
    return new_tensor(graph, x, x.each, ("T", "Hv", "dk"))


@framed
def _chunks(graph: Graph, qkv: list[Value], rows: tuple[Value, Value], each: int, autocast: int) -> Value:
    """Within each chunk one triangular system; across chunks the scan. `rows` are beta and the decay."""
    q, k, v = qkv
    v_beta, k_beta = graph.hold((mul_rows(graph, v, rows[0]), mul_rows(graph, k, rows[0])))
    ones = graph.new(4096, ())
    mask = graph.hold(graph.new(4096, ()))
    graph.release(ones)
    total = graph.hold(cumulative(graph, rows[1]))
    pairwise = graph.hold(unary(graph, masked(graph, _differences(graph, total), mask), saves="output"))
    system = graph.hold(mul(graph, product(graph, k_beta, k, PAIRS, autocast), pairwise))
    within = graph.hold(mul(graph, product(graph, q, k, PAIRS, autocast), pairwise))
    decayed = graph.hold(mul_rows(graph, k_beta, unary(graph, total, saves="output")))
    values, keys = graph.hold((_solve(graph, system, v_beta), _solve(graph, system, decayed)))
    state = graph.hold(Value(graph.new(4, ("b", "Hv", "dk", "dv")), 4, ("b", "Hv", "dk", "dv")))
    out = Value(graph.new(4, _VALUES), 4, _VALUES)
    q = graph.replace(q, mul_rows(graph, q, unary(graph, total, saves="output")))
    k = graph.replace(k, mul_rows(graph, k, unary(graph, to_end(graph, total), saves="output")))
    decays = graph.hold(unary(graph, ends(graph, total), saves="output"))
    out = scan(graph, Scanned(q, k, values, keys, within, decays), state, out, autocast)
    out = clone(graph, out)
    out = _unpadded(graph, out)
    return cast(graph, out, each)


@framed
def _l2_norm(graph: Graph, x: Value) -> Value:
    """`x * rsqrt((x * x).sum(-1) + eps)`."""
    squared = _times_itself(graph, x)
    total = graph.hold(_sum(graph, squared))
    return mul_rows(graph, x, inverse_root_of(graph, total))


@framed
def _times_itself(graph: Graph, x: Value) -> Value:
    """`x * x`: saved once, two gradients."""
    each, dims, edge_in = x.each, x.dims, x.edge
    if not graph.needs(x):
        return Value(graph.new(each, dims), each, dims)

    def backward(_: Buffer) -> Outcome:
        return (edge_in, graph.new(each, dims)), (edge_in, graph.new(each, dims))

    edge = graph.node(backward, graph.save(x, x))
    return Value(graph.new(each, dims), each, dims, edge)


def _sum(graph: Graph, x: Value) -> Value:
    """`x.sum(-1)`; the gradient is spread without a copy."""
    return new_tensor(graph, x, x.each, ("T", "Hv"), passes=True)


@framed
def _differences(graph: Graph, x: Value) -> Value:
    """`x[..., None] - x[..., None, :]` within each chunk; both gradients are summed to rows."""
    edge_in, rows = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = graph.new(4, PAIRS)
        first, second = graph.new(4, rows), graph.new(4, rows)
        graph.release(negated)
        return (edge_in, first), (edge_in, second)

    edge = graph.node(backward) if graph.needs(x) else None
    return Value(graph.new(4, PAIRS), 4, PAIRS, edge)


@framed
def _solve(graph: Graph, system: Value, x: Value) -> Value:
    """`solve_triangular`: saves the system and the solution; backward solves again and multiplies."""
    edges, dims = (system.edge, x.edge), x.dims
    if not graph.needs(system, x):
        return Value(graph.new(4, dims), 4, dims)

    def backward(_: Buffer) -> Outcome:
        to_x = graph.new(4, dims)
        multiplied = graph.new(4, PAIRS)
        negated = graph.new(4, PAIRS)
        graph.release(multiplied)
        lower = graph.new(4, PAIRS)
        graph.release(negated)
        return (edges[0], lower), (edges[1], to_x)

    out = graph.hold(graph.new(4, dims))
    return Value(out, 4, dims, graph.node(backward, graph.save(system, out)))


@framed
def _unpadded(graph: Graph, x: Value) -> Value:
    """`x[:, :, :s]`: where the length is whole chunks, the same tensor and no node."""
    dims = ("T", "Hv", "dv")
    edge_in = x.edge
    if not graph.needs(x):
        return view(x, dims)

    def backward(grad: Buffer) -> Outcome:
        graph.release(graph.new(4, ("TC where padded", "Hv", "dv")))
        return ((edge_in, grad),)

    return Value(x.buffer, x.each, dims, graph.node(backward))
