"""Attention over sequences that are cut over cards: torch's ring, and DeepSpeed's Ulysses.

Sources: torch 2.14 torch/distributed/tensor/experimental/_context_parallel/_attention.py, _templated_ring_attention and
its backward: keys and values of all cards are gathered once, the local part is attended first, then one part after
another, each merged into an output in float32; backward, the gradients of keys and values go round in float32. Each
line below is one there. DeepSpeed 0.19 sequence/layer.py: heads are exchanged for tokens by an all-to-all of each of
q, k, v and the output.
"""

from collections.abc import Callable

from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed

RING = "ring attention: parts of other cards, merged in float32"
EXCHANGED = "Ulysses: heads exchanged for tokens"
# Keys and values of every card.
_ALL = "parts"
Kernel = Callable[[tuple[Value, Value, Value]], Value]


@framed
def ring(graph: Graph, qkv: tuple[Value, Value, Value], *, parts: int, gathers: bool) -> Value:
    """Saves q, k, v as they are, the merged output and its log-sum-exp; what other cards sent is gathered again."""
    q, k, _ = qkv
    inputs = tuple((value.edge, value.dims) for value in qkv)
    needed = graph.needs(*qkv)
    saved = graph.save(*qkv) if needed else None
    with graph.cause(RING):
        out, lse = graph.hold(_merged(graph, q, k, parts, gathers))
    states = graph.hold((graph.new(16, ()), graph.new(8, ())))
    of_q, of_k = (Value(None, x.each, x.dims) for x in (q, k))
    if saved is None:
        return Value(out, q.each, q.dims)

    def backward(_: Buffer) -> Outcome:
        with graph.cause(RING):
            dq, dk, dv = _gradients(graph, of_q, of_k, parts, gathers)
        return tuple((edge, grad) for (edge, _), grad in zip(inputs, (dq, dk, dv), strict=True))

    return Value(out, q.each, q.dims, graph.node(backward, saved + graph.save(out, lse, *states)))


@framed
def _merged(graph: Graph, q: Value, k: Value, parts: int, gathers: bool) -> tuple[Buffer, Buffer]:
    """The forward's loop on the first card: it attends to other parts with the later half of its queries alone, and
    puts each half into the whole anew (`_partial_update`).
    """
    own = graph.hold([graph.new(k.each, k.dims) for _ in ("key", "value")])
    others = graph.hold(_sent(graph, k, gathers))
    out = graph.hold(graph.new(q.each, q.dims))
    lse = graph.hold(graph.new(4, (q.dims[0], "H")))
    merged = graph.hold(graph.new(4, q.dims))
    for part in range(1, min(parts, 3)):  # a third round holds what the second did
        if part == 1:
            graph.release(own)
        elif not gathers:
            others = graph.replace(others, _sent(graph, k, gathers))
        out = graph.replace(out, _half(graph, q.each, q))
        block = graph.hold(_half(graph, 4, q))
        apart = graph.hold(_half(graph, 4, q))
        weighted = graph.hold(_half(graph, 4, q))
        graph.release(apart)
        later = graph.hold(_half(graph, 4, q))
        graph.release(weighted)
        lse = graph.replace(lse, graph.new(4, (q.dims[0], "H")))
        merged = graph.replace(merged, graph.new(4, q.dims))
        graph.release(block, later)
    return graph.new(q.each, q.dims), graph.new(4, (q.dims[0], "H"))


def _half(graph: Graph, each: int, x: Value) -> Buffer:
    return graph.new(each, x.dims, den=2)


@framed
def _sent(graph: Graph, k: Value, gathers: bool) -> Buffer:
    """Keys and values in one tensor, and what comes back of it: those of all cards, or of the one before."""
    graph.hold(graph.new(2 * k.each, k.dims))
    return graph.new(2 * k.each, (_ALL, *k.dims) if gathers else k.dims)


@framed
def _gradients(graph: Graph, q: Value, k: Value, parts: int, gathers: bool) -> tuple[Buffer, Buffer, Buffer]:
    wide = graph.hold(graph.new(4, q.dims))
    wide_keys = graph.hold([graph.new(4, k.dims) for _ in "kv"])
    own = graph.hold([graph.new(k.each, k.dims) for _ in ("key", "value")])
    others = graph.hold(_sent(graph, k, gathers))
    grads: list[Buffer] = []
    sent: Buffer | None = None
    for part in range(min(parts, 3)):
        if part == 1:
            graph.release(own)
        elif part and not gathers:
            others = graph.replace(others, _sent(graph, k, gathers))
        queries = 2 if part else 1
        made = graph.hold([graph.new(q.each, q.dims, den=queries), *(graph.new(k.each, k.dims) for _ in "kv")])
        work = [graph.new(4, (f"flash {name}",), den=queries) for name in ("lse", "dq")]
        work += [graph.new(q.each, q.dims) for _ in "kv"] if k.dims != q.dims else []
        graph.release(work, grads)
        grads = made
        if part:
            graph.release(wide_keys)
            wide_keys = graph.hold([graph.new(4, k.dims) for _ in "kv"])
        together = graph.hold(graph.new(8, k.dims))
        arrived = graph.hold(graph.new(8, k.dims))
        graph.release(together, sent)
        sent = arrived
        if part:
            wide = graph.replace(wide, graph.new(4, q.dims))
    graph.release(grads[1:])
    dq = graph.hold(graph.new(q.each, q.dims))
    both = graph.hold(graph.new(2 * k.each, k.dims))
    graph.release(wide, both)
    return dq, graph.new(k.each, k.dims), graph.new(k.each, k.dims)


@framed
def ulysses(graph: Graph, qkv: tuple[Value, Value, Value], kernel: Kernel) -> Value:
    """Each card attends to all tokens with its share of the heads: as many elements, laid out anew.

    An all-to-all sends a contiguous copy and receives another tensor; so it does with the gradient.
    """
    q, k, v = qkv
    given = graph.hold((_exchanged(graph, q), _exchanged(graph, k), _exchanged(graph, v)))
    return _exchanged(graph, kernel(given))


@framed
def _exchanged(graph: Graph, x: Value) -> Value:
    with graph.cause(EXCHANGED):
        sent = graph.hold(graph.new(x.each, x.dims))
        received = graph.hold(graph.new(x.each, x.dims))
        graph.release(sent)
    if not graph.needs(x):
        return Value(received, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        with graph.cause(EXCHANGED):
            copy = graph.new(each, dims)
            back = graph.new(each, dims)
            graph.release(copy)
        return ((edge_in, back),)

    return Value(received, x.each, x.dims, graph.node(backward))
