"""What a step is given: the collated batch, and what a preference's trainer makes of it."""

from planner.step.engine.graph import Buffer, Graph, framed
from planner.step.passes import scores_by_reference
from planner.step.switches import Switches

INPUTS = "token ids, positions and rotary tables"
# Their losses are given parts of sequences, and join them.
JOINS_INPUTS = ("orpo", "cpo", "grpo")


@framed
def batch_tensors(graph: Graph, switches: Switches) -> list[Buffer]:
    """What the collator hands over: ids, labels, how many count, and an attention mask.

    A preference's completion mask takes the place of labels. KTO has four more tensors: the prompts with completions of
    others, and which examples are desirable. A reward model's pairs have neither labels nor a mask of completions.
    Scores of the reference that were worked out before come with the batch. A packed one has no mask, and its borders.
    GRPO hands its own loss the advantage of each sequence it generated, and how many tokens count in all of them.
    """
    with graph.cause(INPUTS):
        ids = graph.hold([graph.new(8, ("batch",)), graph.new(8, ()), graph.new(4, ())])
        if switches.objective not in {"reward", "grpo"}:
            ids.append(graph.hold(graph.new(8, ("batch",))))
        if switches.collated:
            ids.append(graph.hold(graph.new(8, ("batch",))))
        if switches.packed:  # positions, where each document begins, twice, and of which document each token is
            ids += graph.hold([graph.new(8, ("batch",)), *(graph.new(4, ()) for _ in "qk"), graph.new(4, ("batch",))])
        if switches.objective == "kto":
            ids += graph.hold([*(graph.new(8, ("batch",)) for _ in range(3)), graph.new(1, ("desirable",))])
        if switches.objective in {"dpo", "kto"} and not scores_by_reference(switches.passes):
            ids += graph.hold([graph.new(4, ("pairs",)) for _ in range(2)])
        if switches.objective == "grpo":
            ids += graph.hold([graph.new(4, ("generated",)), graph.new(8, ())])
    return ids


@framed
def tensors_of_loss(graph: Graph, switches: Switches) -> list[Buffer]:
    """What a preference's trainer makes of the batch, and names until its loss is there: labels of the completions;
    KTO's numbers of desirable and of other examples; ORPO and CPO join chosen and rejected anew, GRPO prompts,
    completions and their masks.
    """
    own = {"dpo": 1, "kto": 1, **dict.fromkeys(JOINS_INPUTS, 3)}.get(switches.objective, 0)
    with graph.cause(INPUTS):
        numbers = [graph.new(8, ()) for _ in ("desirable", "other")] if switches.objective == "kto" else []
        return [*(graph.new(8, ("T",)) for _ in range(own)), *numbers]
