"""The gated delta rule in chunks of 64 tokens, as transformers writes it in plain torch, operator by operator.

Source: transformers 5.23 models/qwen3_5/modeling_qwen3_5.py, torch_chunk_gated_delta_rule, which runs unless the
package flash-linear-attention is installed. Everything is float32; autocast casts the sides of its products.
"""

from typing import NamedTuple

from planner.timeline.attend import product
from planner.timeline.chunks import cumulative, ends, masked, to_end
from planner.timeline.delta_scan import Scanned, scan
from planner.timeline.norms import inverse_root_of, mul_rows
from planner.timeline.ops import cast, clone, mul, unary, view
from planner.timeline.pieces import pad
from planner.timeline.tape import Buffer, Outcome, Tape, Value

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


def delta_rule(tape: Tape, inputs: Inputs, autocast: int) -> Value:
    """The attended values, in the dtype of the queries. Names live as long as those of the code this follows."""
    with tape.cause(RULE):
        qkv, beta = _wide(tape, inputs)
        q, k, v = qkv
        del qkv
        q = _l2_norm(tape, q)
        k = _l2_norm(tape, k)
        q = unary(tape, q)
        qkv = [pad(tape, q, _KEYS), pad(tape, k, _KEYS), pad(tape, v, _VALUES)]
        del q, k, v
        rows = pad(tape, beta, ROWS), pad(tape, inputs.decay, ROWS)
        del beta
        return _chunks(tape, qkv, rows, inputs.q.each, autocast)


def _wide(tape: Tape, inputs: Inputs) -> tuple[list[Value], Value]:
    """All in float32, key heads repeated where each serves several value heads."""
    wide = [_repeated(tape, x) if x.dims[-1] == "key" else x for x in (inputs.q, inputs.k)]
    return [cast(tape, x, 4) for x in (*wide, inputs.v)], cast(tape, inputs.beta, 4)


def _repeated(tape: Tape, x: Value) -> Value:
    """`repeat_interleave`; the gradient is summed over the heads."""
    edge_in, each, own = x.edge, x.each, x.dims
    if not tape.needs(x):
        return Value(tape.new(each, ("T", "Hv", "dk")), each, ("T", "Hv", "dk"))
    edge = tape.node(lambda _: ((edge_in, tape.new(each, own)),))
    return Value(tape.new(each, ("T", "Hv", "dk")), each, ("T", "Hv", "dk"), edge)


def _chunks(tape: Tape, qkv: list[Value], rows: tuple[Value, Value], each: int, autocast: int) -> Value:
    """Within each chunk one triangular system; across chunks the scan. `rows` are beta and the decay."""
    v, k, q = qkv.pop(), qkv.pop(), qkv.pop()
    v_beta, k_beta = mul_rows(tape, v, rows[0]), mul_rows(tape, k, rows[0])
    ones = tape.new(4096, ())
    mask = tape.new(4096, ())
    del ones
    total = cumulative(tape, rows[1])
    pairwise = unary(tape, masked(tape, _differences(tape, total), mask), saves="output")
    system = mul(tape, product(tape, k_beta, k, PAIRS, autocast), pairwise)
    within = mul(tape, product(tape, q, k, PAIRS, autocast), pairwise)
    decayed = mul_rows(tape, k_beta, unary(tape, total, saves="output"))
    values, keys = _solve(tape, system, v_beta), _solve(tape, system, decayed)
    state = Value(tape.new(4, ("b", "Hv", "dk", "dv")), 4, ("b", "Hv", "dk", "dv"))
    out = Value(tape.new(4, _VALUES), 4, _VALUES)
    q = mul_rows(tape, q, unary(tape, total, saves="output"))
    k = mul_rows(tape, k, unary(tape, to_end(tape, total), saves="output"))
    decays = unary(tape, ends(tape, total), saves="output")
    out = scan(tape, Scanned(q, k, values, keys, within, decays), state, out, autocast)
    out = clone(tape, out)
    out = _unpadded(tape, out)
    result = cast(tape, out, each)
    del v, v_beta, k_beta, mask, pairwise, system, decayed, state
    return result


def _l2_norm(tape: Tape, x: Value) -> Value:
    """`x * rsqrt((x * x).sum(-1) + eps)`."""
    squared = _times_itself(tape, x)
    total = _sum(tape, squared)
    del squared
    return mul_rows(tape, x, inverse_root_of(tape, total))


def _times_itself(tape: Tape, x: Value) -> Value:
    """`x * x`: saved once, two gradients."""
    each, dims, edge_in = x.each, x.dims, x.edge
    if not tape.needs(x):
        return Value(tape.new(each, dims), each, dims)

    def backward(_: Buffer) -> Outcome:
        return (edge_in, tape.new(each, dims)), (edge_in, tape.new(each, dims))

    edge = tape.node(backward, tape.save(x, x))
    return Value(tape.new(each, dims), each, dims, edge)


def _sum(tape: Tape, x: Value) -> Value:
    """`x.sum(-1)`; the gradient is spread without a copy."""
    dims = ("T", "Hv")
    edge_in = x.edge
    edge = tape.node(lambda grad: ((edge_in, grad),)) if tape.needs(x) else None
    return Value(tape.new(x.each, dims), x.each, dims, edge)


def _differences(tape: Tape, x: Value) -> Value:
    """`x[..., None] - x[..., None, :]` within each chunk; both gradients are summed to rows."""
    edge_in, rows = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = tape.new(4, PAIRS)
        first, second = tape.new(4, rows), tape.new(4, rows)
        del negated
        return (edge_in, first), (edge_in, second)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(4, PAIRS), 4, PAIRS, edge)


def _solve(tape: Tape, system: Value, x: Value) -> Value:
    """`solve_triangular`: saves the system and the solution; backward solves again and multiplies."""
    edges, dims = (system.edge, x.edge), x.dims
    if not tape.needs(system, x):
        return Value(tape.new(4, dims), 4, dims)

    def backward(_: Buffer) -> Outcome:
        to_x = tape.new(4, dims)
        multiplied = tape.new(4, PAIRS)
        negated = tape.new(4, PAIRS)
        del multiplied
        lower = tape.new(4, PAIRS)
        del negated
        return (edges[0], lower), (edges[1], to_x)

    out = tape.new(4, dims)
    return Value(out, 4, dims, tape.node(backward, tape.save(system, out)))


def _unpadded(tape: Tape, x: Value) -> Value:
    """`x[:, :, :s]`: where the length is whole chunks, the same tensor and no node."""
    dims = ("T", "Hv", "dv")
    edge_in = x.edge
    if not tape.needs(x):
        return view(x, dims)

    def backward(grad: Buffer) -> Outcome:
        tape.new(4, ("TC where padded", "Hv", "dv"))
        return ((edge_in, grad),)

    return Value(x.buffer, x.each, dims, tape.node(backward))
