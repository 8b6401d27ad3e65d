"""One training step, walked once per kind of model: forward, loss, backward, each kind of layer once.

Equal layers make equal events, so that a model of any depth is put together from these segments
(planner/timeline/fold.py).
"""

from functools import lru_cache

from planner.families.parts import Block, Structure
from planner.timeline.blocks import RESIDUAL, block
from planner.timeline.fold import Program, compiled
from planner.timeline.losses import full_logits, start_backward
from planner.timeline.norms import norm
from planner.timeline.projections import Projector
from planner.timeline.switches import Switches
from planner.timeline.tape import Edge, Tape, Value

INPUTS = "token ids, positions and rotary tables"


@lru_cache(maxsize=512)
def walk(structure: Structure, switches: Switches) -> Program:
    """The segments of one step of a model with one layer of each kind."""
    tape = Tape(keeps_gradients=switches.accumulates)
    tape.mark("forward")
    x, inputs = _embed(tape, switches)
    for kind, part in enumerate(structure.blocks):
        tape.mark(f"forward {kind}")
        x = _layer(tape, part, x, switches, kind, inputs)
        tape.layer_casts[kind], tape.casts = tape.casts, []
        tape.mark_backward(f"backward {kind}")
    tape.mark("forward")
    x = norm(tape, structure.final_norm, x, switches.residual, switches.trains_base) if structure.final_norm else x
    loss, kept = full_logits(tape, structure, switches, x)
    del x
    tape.mark("backward")
    start_backward(tape, loss)
    del loss, kept, inputs
    return compiled(tape)


def _embed(tape: Tape, switches: Switches) -> tuple[Value, tuple[Value, ...]]:
    """Ids, labels, the embedded tokens, positions and the rotary tables (kept for the whole step)."""
    with tape.cause(INPUTS):
        ids = tape.new(8, ("T",)), tape.new(8, ("T",)), tape.new(8, ())
    with tape.cause(RESIDUAL):
        edge = Edge(leaf=True)
        x = Value(tape.new(switches.residual, ("T", "h")), switches.residual, ("T", "h"), edge)
    with tape.cause(INPUTS):
        positions = tape.new(8, ("s",))
        angles = tape.new(4, ("s", "d")), tape.new(4, ("s", "d"))
        tables = tuple(Value(tape.new(switches.residual, ("s", "d")), switches.residual, ("s", "d")) for _ in "cs")
        del angles
    return x, (*tables, *(Value(buffer, 8, ("T",)) for buffer in (*ids, positions)))


def _layer(
    tape: Tape, part: Block, x: Value, switches: Switches, kind: int, inputs: tuple[Value, ...]
) -> Value:
    project = Projector(tape, switches, switches.layers[kind])

    def run() -> Value:
        return block(tape, part, x, project, inputs[0])

    return tape.checkpoint(run) if switches.checkpointing else run()
