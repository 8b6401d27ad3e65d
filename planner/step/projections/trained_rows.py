"""Rows of an embedding that are trained among frozen ones: PEFT makes the whole anew wherever it is read.

Source: peft 0.21.2, tuners/trainable_tokens/layer.py get_merged_weights (index_copy).
"""

from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast
from planner.step.switches import TRAINED_ROWS, Switches

MERGED = "embedding with its trained rows"


@framed
def merged_rows(graph: Graph, switches: Switches, each: int) -> Value:
    """The whole, `each` bytes per element; where the head reads it, too, both gradients meet before they are kept."""
    index = graph.hold(Value(graph.new(8, (TRAINED_ROWS,)), 8, (TRAINED_ROWS,)))
    rows = graph.hold(cast(graph, Value(None, switches.adapter, (TRAINED_ROWS, "h"), _leaf(graph, switches)), each))
    edge_in, dims = rows.edge, rows.dims
    tag = GRADIENTS if edge_in and (edge_in.leaf or edge_in is graph.rows) else ""

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, dims, tag)),)

    edge = graph.node(backward, graph.save(index, rows))
    return Value(graph.new(each, ("V", "h"), MERGED), each, ("V", "h"), edge)


def _leaf(graph: Graph, switches: Switches) -> Edge:
    """Where the gradient of the rows goes."""
    leaf = Edge(leaf=True)
    if not switches.merges_head:
        return leaf
    if graph.rows is None:
        graph.rows = graph.node(lambda grad: ((leaf, grad),))
    return graph.rows
