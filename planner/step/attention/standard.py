"""Attention: projections, head norms, rotary embedding, kernel, output projection.

Sources: transformers 5.23 models/*/modeling_*.py, the Attention class of each.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from planner.families.parts import Attention
from planner.step.attention.alibi import alibi_attention
from planner.step.attention.falcon_eager import attend_with_own_scores
from planner.step.attention.kernels import attend, repeat
from planner.step.attention.kv_cache import KeyValueCache
from planner.step.attention.llama4_qk import late
from planner.step.attention.rotary import CONCATENATED, gathered, in_part, join_parts, layer_tables, turn
from planner.step.attention.rotary_pairs import halves
from planner.step.attention.sinks import attend_with_sinks
from planner.step.engine.graph import Buffer, Graph, Outcome, SharedShelf, Value, buffers_of, framed
from planner.step.engine.ops import clone, relayout_gradient, unary, view
from planner.step.engine.row_ops import column_at
from planner.step.engine.slice_ops import piece, split
from planner.step.norms import norm
from planner.step.projections.linear import Projector
from planner.step.switches import LayerSwitches

QKV = "attention: q, k, v and output"


class Stored(NamedTuple):
    """Keys and values that later layers read, and what else lives as long as they do."""

    keys: Value
    values: Value
    needed: tuple[Buffer, ...]


class StoredKeys(SharedShelf):
    """The model's dictionary of them, by whether their layer slides: each call of a layer that is given it owns it."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[bool, Stored] = {}

    def __getitem__(self, slides: bool) -> Stored:
        return self._of[slides]

    def __setitem__(self, slides: bool, stored: Stored) -> None:
        before = self._of.get(slides)
        for buffer in buffers_of(stored):
            buffer.own()
        self._of[slides] = stored
        for buffer in buffers_of(before):
            buffer.disown()

    def clear(self) -> None:
        """Disown all."""
        before, self._of = self._of, {}
        for buffer in buffers_of(list(before.values())):
            buffer.disown()


@dataclass(frozen=True, slots=True)
class Shared:
    """What every layer reads: cos and sin, a mask where one is made, and what lives as long beside them.

    `full_tables`, `full_mask`: of layers without a window, where those have others. `layer_input`: this layer's share
    of all layer inputs. `stored`: keys and values by whether their layer slides. `cache`: where a model that generates
    keeps them.
    """

    tables: tuple[Value, Value] | None
    mask: Value | None
    held: tuple[Value, ...]
    full_tables: tuple[Value, Value] | None = None
    full_mask: Value | None = None
    layer_inputs: Value | None = None
    layer_input: Value | None = None
    stored: StoredKeys = field(default_factory=StoredKeys)
    cache: KeyValueCache | None = None

    def owned(self) -> tuple[object, ...]:
        """What lives as long as the holder of this."""
        return (
            self.tables, self.mask, self.held, self.full_tables, self.full_mask, self.layer_inputs, self.layer_input,
            self.stored,
        )  # fmt: skip


@framed
def attention(graph: Graph, part: Attention, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    mask = graph.hold(shared.mask if project.layer.masked else None)
    with graph.cause(QKV):
        if part.alibi:
            return alibi_attention(graph, part, x, project, mask, shared.cache)
        fused = graph.hold(project(part.fused, x) if part.fused else None)
        q, k, v = graph.hold(_split(graph, part, fused) if fused else _project(graph, part, x, project))
        # Liger turns q and k in place, forward and backward, and copies what is not contiguous before (ops/rope.py).
        in_place = project.switches.liger.rope and project.switches.liger_rotary
        if in_place:
            q, k = graph.replace((q, k), (clone(graph, q), clone(graph, k)) if fused else (q, k))
            q = graph.replace(q, _turned_in_place(graph, q, shared))
        else:
            named = graph.hold(SharedShelf()) if part.names_parts else None
            if named is not None:
                named.put((q, k))
            q, k = graph.replace((q, k), turned(graph, part, q, k, shared, named))
        q, k = graph.replace((q, k), late(graph, part, (q, k), shared.tables, project.switches))
        if shared.cache:
            k, v = graph.replace((k, v), shared.cache.update(k, v, by_head=project.layer.by_head))
        if summed(project.layer):
            v = graph.replace(v, relayout_gradient(graph, v))
        if not project.layer.grouped:
            k, v = graph.replace((k, v), (view(k, q.dims), view(v, q.dims)))
        if part.sinks:
            out, sunk = graph.hold(attend_with_sinks(graph, (q, k, v), mask, project.switches.autocast))
            weights: tuple[Value, ...] = graph.hold((sunk,))
            graph.release(sunk)
        elif part.own_scores and project.layer.kernel == "eager":
            out, own = graph.hold(attend_with_own_scores(graph, (q, k, v), project, mask, x.each))
            weights = graph.hold((own,))
            graph.release(own)
        else:
            out, weights = graph.hold(attend(graph, (q, k, v), project.switches, project.layer, mask))
        project.named.put(weights)  # `hidden_states, _ = self.self_attn(...)`
        # Flash and cuDNN lay their output out as q lies; the others write it token by token.
        as_q = project.layer.kernel not in {"eager", "math", "mem_efficient"}
        if part.rotary in CONCATENATED and not in_place and as_q:
            out = graph.replace(out, clone(graph, out))
        return project(part.o, out)


@framed
def turned(  # noqa: PLR0913, PLR0917 (q, k and what each needs)
    graph: Graph, part: Attention, q: Value, k: Value, shared: Shared, named: SharedShelf | None = None
) -> tuple[Value, Value]:
    """Positions into q and k; what was turned of them joins `named`."""
    if part.rotary == "gathered":
        return gathered(graph, q, k, SharedShelf() if named is None else named)
    if part.rotary in {"none", "complex"} or shared.tables is None:
        return q, k
    if part.rotary == "halves":
        tables = graph.hold(shared.tables)
        return halves(graph, q, tables, ("T", "q half")), halves(graph, k, tables, ("T", "k half"))
    tables = graph.hold(layer_tables(graph, shared.tables, part.rotary))
    if named is not None:
        parts = graph.hold([in_part(graph, x, tables, rotated) for x, rotated in ((q, "q rot"), (k, "k rot"))])
        named.put([turned for turned, _ in parts])
        return join_parts(graph, parts[0], q), join_parts(graph, parts[1], k)
    return turn(graph, q, tables, part.rotary, "q rot"), turn(graph, k, tables, part.rotary, "k rot")


@framed
def _turned_in_place(graph: Graph, q: Value, shared: Shared) -> Value:
    """Liger turns q and k in place, forward and backward, and saves the tables (ops/rope.py)."""
    if shared.tables is None or not graph.needs(q):
        return q
    edge_in = q.edge

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    return q._replace(edge=graph.node(backward, graph.save(*shared.tables)))


def summed(layer: LayerSwitches) -> bool:
    """Whether the values' gradient arrives head by head and has to be copied back to token order."""
    return layer.kernel in {"eager", "math"} or layer.expands


@framed
def _project(graph: Graph, part: Attention, x: Value, project: Projector) -> tuple[Value, Value, Value]:
    if not (part.q and part.k and part.v):
        msg = "attention needs q, k and v or one fused projection"
        raise ValueError(msg)
    q = graph.hold(project(part.q, x))
    scaled = unary(graph, q) if part.scales_query else q
    q = graph.replace(q, normed(graph, part, scaled, project, query=True))
    k = graph.hold(normed(graph, part, project(part.k, x), project, query=False))
    return q, k, project(part.v, x)


@framed
def normed(graph: Graph, part: Attention, x: Value, project: Projector, *, query: bool) -> Value:
    """A projection's head norm; without one, the gradient of the transposed view is copied back."""
    head_norm = part.q_norm if query else part.k_norm
    if head_norm is None or part.late_norm:
        return x if project.switches.liger.rope or part.late_norm else relayout_gradient(graph, x)
    if not head_norm.per:
        x = graph.replace(x, norm(graph, head_norm, x, project.switches))
        return x if project.switches.liger.rope else relayout_gradient(graph, x)
    wide = x.dims[-1]
    return view(norm(graph, head_norm, view(x, ("T", *head_norm.per, "d")), project.switches), ("T", wide))


@framed
def _split(graph: Graph, part: Attention, qkv: Value) -> tuple[Value, Value, Value]:
    """One projection cut into q, k and v: by slices, or by a split of each head's columns."""
    if part.cut in {"groups", "one group"}:
        return _grouped(graph, qkv, repeats=part.cut == "groups")
    if part.cut == "chunks":
        qkv = graph.replace(qkv, relayout_gradient(graph, qkv))
        q, k, v = graph.hold(split(graph, qkv, (("T", "q"), ("T", "k"), ("T", "k"))))
        return q, k, v
    q, k, v = graph.hold(tuple(piece(graph, qkv, ("T", width)) for width in ("q", "k", "k")))
    return relayout_gradient(graph, q), relayout_gradient(graph, k), v


@framed
def _grouped(graph: Graph, qkv: Value, *, repeats: bool) -> tuple[Value, Value, Value]:
    """Falcon: keys and values are indexed out of the projection (copies); the new layout writes them once per head."""
    q = graph.hold(piece(graph, qkv, ("T", "q")))
    k, v = graph.hold((column_at(graph, qkv, ("T", "k")), column_at(graph, qkv, ("T", "k"))))
    if not repeats:
        return relayout_gradient(graph, q), k, v
    q = graph.replace(q, clone(graph, q))
    return q, repeat(graph, k), repeat(graph, v)
