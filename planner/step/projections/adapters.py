"""The trained matrices of an adapter, and weights under autocast.

Source: peft 0.21 tuners/lora/layer.py; torch aten/src/ATen/autocast_mode.cpp, cached_cast.
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Graph, Value, framed
from planner.step.engine.ops import cast, matmul, parameter
from planner.step.switches import Switches

# Only float32 weights are cached.
_CACHED_BYTES = 4
EMBEDDED = "embedded tokens"


@framed
def autocast_weight(graph: Graph, weight: Value, each: int, name: str) -> Value:
    """A weight under autocast. A trained float32 leaf is cast once and kept until autocast ends, one of the other
    16-bit dtype each time (autocast_mode.cpp, can_try_cache).
    """
    if name in graph.casts:
        return graph.casts[name]
    copy = cast(graph, weight, each)
    if copy is not weight and weight.edge is not None and weight.each == _CACHED_BYTES:
        graph.keep_cast(name, copy)
    return copy


@framed
def autocast_input(graph: Graph, x: Value, each: int) -> Value:
    """What a linear layer is given, under autocast. Float32 embeddings that require a gradient are a leaf.

    peft's enable_input_require_grads makes them one; a first layer without a norm before its projections reads them
    as they are, and autocast casts a float32 leaf once (autocast_mode.cpp, can_try_cache).
    """
    if x.edge is None or x.edge is not graph.leaf_input or x.each != _CACHED_BYTES:
        return cast(graph, x, each)
    return autocast_weight(graph, x, each, EMBEDDED)


def autocast_bias(graph: Graph, part: Linear, held: int, each: int, *, trained: bool) -> Value:
    """A bias under autocast, cast as a weight is; its gradient is the product's own."""
    copy = cast(graph, parameter(held, (part.out,)), each)
    name = f"{part.name} bias"
    if trained and held == _CACHED_BYTES and name not in graph.casts:
        graph.keep_cast(name, copy)
    return graph.casts.get(name, copy)


def narrowed_input(graph: Graph, x: Value, each: int) -> Buffer | None:
    """The same inside a function of its own, whose gradient is no node's: the leaf's cast is kept all the same."""
    if x.edge is None or x.edge is not graph.leaf_input or x.each != _CACHED_BYTES:
        return graph.new(each, x.dims)
    if EMBEDDED not in graph.casts:
        graph.keep_cast(EMBEDDED, Value(graph.new(each, x.dims), each, x.dims))
    return graph.casts[EMBEDDED].buffer


@framed
def adapter_matmul(graph: Graph, switches: Switches, x: Value, shape: tuple[str, str], name: str) -> Value:
    """`lora_A` or `lora_B` of the projection `name`: a trained weight of `shape` (in, out)."""
    weight = parameter(switches.adapter, (shape[1], shape[0]), trained=True)
    if switches.autocast:
        key = f"{name} {'A' if shape[1] == switches.rank(name) else 'B'}"
        weight = autocast_weight(graph, weight, switches.autocast, key)
        x = autocast_input(graph, x, switches.autocast)
    return matmul(graph, x, weight, shape[1])
