"""One training step, walked once per kind of model: forward, loss, backward, each kind of layer once.

Equal layers make equal events, so that a model of any depth is put together from these segments
(planner/step/engine/program.py).
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Attention, Block, Latent, Structure
from planner.step.attention.standard import Shared
from planner.step.decoder_layer import RESIDUAL, block
from planner.step.engine.graph import Edge, Graph, Value
from planner.step.engine.ops import GRADIENTS, add, dropout, embedding_gradient, unary
from planner.step.engine.program import Program, compiled
from planner.step.gemma4_layer_inputs import layer_inputs, share
from planner.step.losses.full_logits import head_and_loss, start_backward
from planner.step.norms import norm
from planner.step.projections.adapters import EMBEDDED
from planner.step.projections.linear import Projector
from planner.step.switches import Switches

INPUTS = "token ids, positions and rotary tables"
MASK = "attention mask"


@lru_cache(maxsize=512)
def walk(structure: Structure, switches: Switches) -> Program:
    """The segments of one step of a model with one layer of each kind.

    Where nothing before the layers is trained, the first layers save less than their like (their input needs no
    gradient); they are walked beside them as kinds of their own, numbered after the last.
    """
    graph = Graph(keeps_gradients=switches.accumulates)
    if switches.accumulates:
        _hold_gradients(graph, walk(structure, replace(switches, accumulates=False)))
    graph.mark("forward")
    x, named, shared, positions = _embed(graph, structure, switches)
    graph.mark_backward("backward")
    held = (*shared.held, positions) if positions else shared.held
    outside, graph.casts = graph.casts, {}
    entering = [x]
    del x
    x, leading = _layers(graph, structure, switches, entering, replace(shared, held=held))
    graph.casts.update(outside)
    del held, outside
    graph.mark("forward")
    # Where layers make the gradient that they hand on, the first to take one takes what the final norm made.
    makes = any(block.scaled_output for block in structure.blocks)
    x = norm(graph, structure.final_norm, x, switches, RESIDUAL if makes else "norms") if structure.final_norm else x
    graph.outputs.clear()
    del named
    saved = _saved_by_layers(graph, shared)
    if not switches.checkpointing:  # checkpoint frames hold what layers were called with
        shared, positions = Shared(None, None, _ids(shared)), None
    # Each layer is called with the tables of its own heads, and where some need no mask, they get none.
    shared = replace(shared, wide_tables=None, mask=None if _some_keep_a_state(structure) else shared.mask)
    hidden = [x]
    del x
    loss, kept = head_and_loss(graph, structure, switches, hidden)
    graph.mark("backward")
    start_backward(graph, loss)
    _leave_graph(graph)
    del loss, kept, shared, positions, saved
    return compiled(graph, leading=leading)


def _leave_graph(graph: Graph) -> None:
    """The end of the graph, and of what its functions kept, each layer's own."""
    graph.mark("backward")
    if any(graph.layer_kept_with_graph.values()):
        for kind, kept in sorted(graph.layer_kept_with_graph.items()):
            graph.mark(f"backward {kind}")
            kept.clear()
        graph.mark("backward")


def _hold_gradients(graph: Graph, program: Program) -> None:
    """With accumulation, the gradients of earlier micro-batches are there from the start and are added to.

    Liger makes that of the head while it works out the loss; the others are made in the backward pass.
    """
    for segment in program.segments:
        if segment.phase != "forward":
            name = "forward" if segment.kind is None else f"forward {segment.kind}"
            graph.mark(name)
            for key, count in segment.net:
                tag, size = program.keys[key]
                if tag == GRADIENTS:
                    graph.collected += [graph.new(size.num, size.dims, tag, size.den) for _ in range(count)]


def _saved_by_layers(graph: Graph, shared: Shared) -> tuple[Value, ...]:
    """Tables and mask that some layer saved: they go with the last layer, which only one stretch of the step is.

    Where the first layer saves none, they would go in a stretch that stands for many layers, once for each.
    """
    held = {id(holder.buffer) for node in graph.nodes if not isinstance(node, str) for holder in node[2]}
    found = (*(shared.tables or ()), *((shared.mask,) if shared.mask else ()))
    return tuple(value for value in found if id(value.buffer) in held)


def _embed(
    graph: Graph, structure: Structure, switches: Switches
) -> tuple[Value, tuple[Value, ...], Shared, Value | None]:
    """What the first layer is given; what the model's forward keeps a name for until it returns, the embedded tokens
    (`inputs_embeds`) and learned positions; what all layers share (ids, labels, mask, rotary tables); position ids.
    """
    with graph.cause(INPUTS):
        ids = [graph.new(8, ("batch",)), graph.new(8, ("batch",)), graph.new(8, ()), graph.new(4, ())]
        if switches.collated:
            ids.append(graph.new(8, ("batch",)))
    with graph.cause(RESIDUAL):
        x = Value(graph.new(switches.residual, ("T", "h")), switches.residual, ("T", "h"))
        if structure.embedding_scaled == "inside":
            x = unary(graph, x)
        leaf = x = x._replace(edge=_input_edge(graph, switches, tied=structure.tied))
        if structure.embedding_scaled == "outside":
            x = unary(graph, x)
        named = [x]
        if structure.positions:
            dims = ("T" if structure.positions_each else "s", "h")
            named.append(Value(graph.new(switches.residual, dims), switches.residual, dims))
            x = add(graph, *named)
        if structure.embedding_norm:
            # Its output is what the layers hand on, and counts as that.
            x = norm(graph, structure.embedding_norm, x, switches, RESIDUAL)
        if structure.embedding_dropout:
            x = dropout(graph, x)
    inputs = _inputs_of_layers(graph, structure, switches, x)
    with graph.cause(INPUTS):
        positions: Value | None = _positions(graph, structure, x.each)
        masks = _masks(graph, switches)
        if structure.idle_mask and switches.layers[0].kernel != "flash_attention_2":
            named.append(_mask(graph, switches, eager=switches.layers[0].kernel == "eager"))
        angles = [graph.new(4, ("s", "rotated")) for _ in range(2 * min(1, structure.rotary_sets))]
        tables = _tables(graph, structure, switches)
        del angles
    # The graph holds the embedding's output as a leaf where peft made it require a gradient.
    leaves = (leaf,) if leaf is not x and switches.checkpointing and not switches.trains_base else ()
    pair = (tables[0], tables[1]) if tables else None
    wide = tuple(tables[-2:]) if structure.rotary_wide else ()
    others = [table for table in tables[2:] if table not in wide]
    held = (*leaves, *others, *(Value(buffer, 8, ("batch",)) for buffer in ids))
    return x, tuple(named), Shared(
        pair,
        masks[0] if masks else None,
        (*held, *masks[1:]),
        wide_tables=(wide[0], wide[1]) if wide else None,
        layer_inputs=inputs,
    ), positions


def _positions(graph: Graph, structure: Structure, each: int) -> Value:
    """Position ids, or ALiBi's slopes by position in the hidden states' dtype (`build_alibi_tensor`)."""
    if any(isinstance(block.attention, Attention) and block.attention.alibi for block in structure.blocks):
        return Value(graph.new(each, ("b", "H", "s")), each, ("b", "H", "s"))
    dims = ("T",) if structure.positions_each else ("s",)
    return Value(graph.new(8, dims), 8, dims)


def _tables(graph: Graph, structure: Structure, switches: Switches) -> list[Value]:
    """cos and sin of each set; the last set may be for heads of another width."""
    each = _table_width(structure, switches)
    widths = ["rotated"] * structure.rotary_sets
    if structure.rotary_wide:
        widths[-1] = "rotated wide"
    rows = "T" if structure.rotary_each else "s"
    return [Value(graph.new(each, (rows, width)), each, (rows, width)) for width in widths for _ in ("cos", "sin")]


def _some_keep_a_state(structure: Structure) -> bool:
    return not all(_attends(block) for block in structure.blocks)


def _attends(block: Block) -> bool:
    """Whether the layer is called with the mask."""
    return isinstance(block.attention, Attention | Latent)


def _inputs_of_layers(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value | None:
    if structure.layer_inputs is None:
        return None
    outside = replace(
        switches.layers[0], adapters=switches.outside.adapters, fused=switches.outside.fused
    )
    return layer_inputs(graph, structure.layer_inputs, x, Projector(graph, switches, outside))


def _table_width(structure: Structure, switches: Switches) -> int:
    """Bytes per column of cos and of sin; a complex table of 8 bytes per pair of columns counts as both."""
    kinds = [block.attention for block in structure.blocks]
    if any(kind.rotary == "complex" for kind in kinds if isinstance(kind, Attention | Latent)):
        return 2
    return 4 if structure.rotary_float else switches.residual


def _ids(shared: Shared) -> tuple[Value, ...]:
    """What the training loop holds until the step is over; and a second set of tables, which its layers save."""
    return tuple(value for value in shared.held if value.dims in {("batch",), ("s", "rotated")})


def _masks(graph: Graph, switches: Switches) -> list[Value]:
    """One byte per pair of tokens for sdpa, the model's dtype for eager, for each reach of attention that needs one.

    masking_utils.py sdpa_mask and eager_mask: causal, then padding, then both. Without a padding mask, all sequences
    share one boolean mask, an expanded view; eager's is written out for each.
    """
    kinds = sorted({(layer.windowed, layer.kernel == "eager") for layer in switches.layers if layer.masked})
    return [_mask(graph, switches, eager=eager) for _, eager in kinds]


def _mask(graph: Graph, switches: Switches, *, eager: bool) -> Value:
    dims = ("T", "s") if switches.padded or switches.collated or eager else ("s", "s")
    mask = Value(graph.new(1, dims, MASK), 1, dims)
    return Value(graph.new(switches.residual, dims, MASK), switches.residual, dims) if eager else mask


def _input_edge(graph: Graph, switches: Switches, *, tied: bool) -> Edge | None:
    """Who wants the gradient of the embedded tokens.

    A trained embedding makes a dense gradient of its own size; where it is the head, too, both gradients meet before
    they are accumulated. With checkpointing, peft lets the output require grad
    (enable_input_require_grads) and nothing further happens; without either, nobody asks.
    """
    if not switches.trains_base:
        graph.leaf_input = graph.node(lambda _: ()) if switches.checkpointing else None
        return graph.leaf_input
    weight = Edge(leaf=True)
    if tied:
        leaf = weight
        weight = graph.head = graph.node(lambda grad: ((leaf, grad),))
    return graph.node(lambda _: ((weight, embedding_gradient(graph, switches.residual, ("V", "h"), "embedding rows")),))


def _layers(
    graph: Graph, structure: Structure, switches: Switches, entering: list[Value], shared: Shared
) -> tuple[Value, int]:
    """Every kind of layer once, after the first layers; how many kinds those are of, none where they are like theirs.

    What enters the first layer is taken out of `entering`, so that it goes when the layer does not keep it.

    The first layer is a kind of its own, because the model holds its input; each later one up to the first that trains
    something is of one too.
    """
    x = entering.pop()
    kinds, before = len(structure.blocks), x.each

    def layer(x: Value, part: int) -> Value:
        return _layer(graph, structure.blocks[part], x, Projector(graph, switches, switches.layers[part]), shared)

    graph.mark("forward")
    x = layer(x, 0)
    # The projection for layer inputs saves the embedded tokens, so that they do not go with the first layer.
    goes = structure.layer_inputs is None
    # What only the first leaves behind: outputs that stay until the second layer's are there (every later layer's
    # take the place of the one's before), and a cast of the embedded tokens.
    leaves = graph.outputs or EMBEDDED in graph.casts
    alike = (switches.checkpointing and x.each == before and goes and not leaves) or bool(structure.blocks[0].once)
    leading, first = (0, 0) if alike else (switches.leading_kinds, kinds)
    graph.marks[-1] = (f"forward {first}", graph.marks[-1][1])
    _leave_layer(graph, first)
    others = [(part, kinds + 1 + part) for part in range(leading - 1)] + [(kind, kind) for kind in range(kinds)]
    for part, kind in others[1:] if alike else others:
        graph.mark(f"forward {kind}")
        x = layer(x, part)
        _leave_layer(graph, kind)
    return x, leading


def _leave_layer(graph: Graph, kind: int) -> None:
    """Set the casts that autocast keeps apart by kind, and mark where the backward pass comes back to it."""
    graph.layer_casts[kind], graph.casts = graph.casts, {}
    graph.layer_kept_with_graph[kind], graph.kept_with_graph = graph.kept_with_graph, []
    graph.mark_backward(f"backward {kind}")


def _layer(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    own = _own(graph, part, shared)

    def run(entering: Value) -> Value:
        return block(graph, part, entering, project, own)

    if not project.switches.checkpointing:
        return run(x)
    return graph.checkpoint_reentrant(run, x) if project.switches.reentrant else graph.checkpoint(run, x)


def _own(graph: Graph, part: Block, shared: Shared) -> Shared:
    """What this layer is called with: tables for its heads, its share of the layer inputs."""
    if shared.wide_tables and not (part.attention and part.attention.window):
        shared = replace(shared, tables=shared.wide_tables)
    if not _attends(part):
        shared = replace(shared, mask=None)
    if shared.layer_inputs:
        shared = replace(shared, layer_input=share(graph, shared.layer_inputs))
    return replace(shared, wide_tables=None) if shared.wide_tables else shared
