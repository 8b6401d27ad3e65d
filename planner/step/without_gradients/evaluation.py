"""What a batch of Trainer's evaluation makes: a forward without gradients and a loss, between two training steps.

Source: transformers 5.23 trainer.py prediction_step: nothing is checkpointed or dropped, gradients are gone, and logits
are not kept where no compute_metrics reads them. trl 1.16 sft_trainer.py prediction_step: through the fused head.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Decoder, Structure
from planner.gpu import Gpu
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.batch_tensors import batch_tensors
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import embed
from planner.step.engine.graph import Graph
from planner.step.engine.program import Instant, Program, compiled, worst_instants
from planner.step.engine.tables import tables_of
from planner.step.from_recipe.adapted_layers import by_adapters
from planner.step.from_recipe.derive_numbers import numbers_of
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.layer_kinds import trace_layers
from planner.step.legend import cause_of, shown_name
from planner.step.lines import formula_of, largest_terms, ordered
from planner.step.losses.full_logits import head_and_loss
from planner.step.norms import norm
from planner.step.recorded import evaluation_words, nearest
from planner.step.switches import Switches

# Names of lines end so; evaluation takes turns with training, and stands in the phase of its loss.
WHILE = " while evaluating"
PHASE = "loss"
_SOURCE = "planner/step: transformers 5.23 trainer.py prediction_step, torch 2.14, traced"


@lru_cache(maxsize=512)
def trace_evaluation(structure: Structure, switches: Switches) -> Program:
    """The segments of one forward and its loss, one layer of each kind, with no gradient anywhere."""
    graph = Graph()
    graph.recording = False
    graph.mark("forward")
    ids = graph.hold(batch_tensors(graph, switches))
    graph.release(ids.pop(2))  # the sum of its micro-batches' losses is training's
    x, named, shared, positions = graph.hold(embed(graph, structure, switches, ids))
    x, leading = graph.hold(trace_layers(graph, structure, switches, graph.move(x), shared))
    graph.mark("forward")
    if structure.final_norm:
        x = graph.replace(x, norm(graph, structure.final_norm, x, switches, RESIDUAL))
    graph.outputs.clear()
    graph.release(named, positions, shared)
    loss, kept = graph.hold(head_and_loss(graph, structure, switches, graph.move(x)))
    graph.release(loss, kept, ids)
    graph.mark("loss")
    graph.check_all_freed()
    return compiled(graph, leading=leading)


@lru_cache(maxsize=64)
def evaluated_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """The worst instant of an evaluation's batch, as lines of the loss's phase; none where nothing is evaluated."""
    if not recipe.evaluates:
        return ()
    lines = tuple(
        Line(
            name=f"{name}{WHILE}",
            bytes=sum(part[2] for part in parts),
            cause=cause_of(name),
            alive_in=(PHASE,),
            formula=formula_of(largest_terms(parts)),
            source=_SOURCE,
        )
        for name, parts in _worst(decoder, recipe.of_evaluation, gpu).lines.items()
    )
    known = evaluation_words(decoder, recipe.of_evaluation, gpu)
    return tuple(line for line in nearest("evaluation", known).labelled(lines) if line.bytes)


def _worst(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Instant:
    decoder = by_adapters(decoder, recipe.lora)
    switches = replace(switches_of(decoder, recipe, gpu), dropout=False)
    program = trace_evaluation(decoder.structure, switches)
    tables = numbers_of(decoder, recipe, gpu)
    numbers = (*tables, tables[0], *tables)
    instants = worst_instants(program, ordered(decoder, program.leading), tables_of(program, numbers), shown_name)
    return max(instants, key=lambda instant: instant.bytes)
