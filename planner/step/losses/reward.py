"""A reward model's end: a score of every token, of which each sequence's last counts, and the loss of their pairs.

Source: transformers 5.23 modeling_layers.py GenericForSequenceClassification.forward; trl 1.16
trainer/reward_trainer.py RewardTrainer.compute_loss.
"""

from planner.families.parts import Structure
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.projections.linear import plain
from planner.step.switches import Switches

REWARDS = "scores of tokens and sequences"


@framed
def reward(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value:
    """The pairs' loss.

    A collator pads to the longest sequence, so that the last token of each is looked up by comparing ids.
    """
    with graph.cause(REWARDS):
        scores = plain(graph, switches, structure.head, x)
        counts = graph.new(1, ("T",))
        not_padding = graph.new(4, ("T",))
        graph.release(counts)
        indices = graph.new(4, ("s",))
        product = graph.new(4, ("T",))
        last = graph.new(8, ("b",))
        graph.release(product)
        edge_in, each, dims = scores.edge, scores.each, scores.dims

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, graph.new(each, dims)),)

        pooled = graph.hold(Value(graph.new(each, ("b",)), each, ("b",), graph.node(backward, graph.save(last))))
        graph.release(scores, not_padding, indices)
        graph.release(x)
        edge = pooled.edge
        return Value(graph.new(4, ()), 4, (), graph.node(lambda _: ((edge, graph.new(each, ("b",))),)))
