"""What a model's forward makes before its first layer: embedded tokens, positions, rotary tables, masks."""

from dataclasses import replace

from planner.families.parts import Attention, Latent, Structure
from planner.step.attention.standard import Shared
from planner.step.batch_tensors import INPUTS
from planner.step.decoder_layer import RESIDUAL
from planner.step.engine.graph import Backward, Buffer, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, add, dropout, embedding_gradient, unary
from planner.step.gemma4_layer_inputs import layer_inputs
from planner.step.norms import norm
from planner.step.projections.linear import Projector
from planner.step.projections.trained_rows import MERGED, merged_rows
from planner.step.switches import Switches

MASK = "attention mask"
_TABLES = ("cos", "sin")


@framed
def embed(  # noqa: PLR0913  # what the model's forward is given
    graph: Graph,
    structure: Structure,
    switches: Switches,
    ids: list[Buffer],
    tokens: Buffer | None = None,
    *,
    has_mask: bool = False,
) -> tuple[Value, tuple[Value, ...], Shared, Value | None]:
    """What the first layer is given; what the model's forward keeps a name for until it returns, the embedded tokens
    (`inputs_embeds`) and learned positions; what all layers share (`ids`, mask, rotary tables); position ids.

    `tokens` are the ids that are looked up, where those are none of the batch's own: a trained embedding saves them.
    `has_mask`: an attention mask is handed over that no collator made.
    """
    replaced: tuple[Value, ...] = ()
    if structure.replaces_media:
        replaced = graph.hold(_media_replaced(graph))
        tokens = graph.replace(tokens, replaced[-1].buffer)
    with graph.cause(RESIDUAL):
        each = switches.held(structure.embedding)
        weight = graph.hold(merged_rows(graph, switches, each)) if switches.trains_tokens else None
        x = graph.hold(Value(graph.new(each, ("T", "h")), each, ("T", "h")))
        if structure.embedding_scaled == "inside":
            x = graph.replace(x, unary(graph, x))
        edge = _input_edge(graph, switches, tokens, weight, tied=structure.tied)
        leaf = x = graph.hold(x._replace(edge=edge))
        graph.release(weight)
        if switches.noisy:  # transformers/integrations/neftune.py, a hook of the embedding
            x = graph.replace(x, add(graph, x, Value(graph.new(x.each, x.dims), x.each, x.dims)))
        if structure.embedding_scaled == "outside":
            x = graph.replace(x, unary(graph, x))
        named = graph.hold([x])
        has_mask = has_mask or switches.collated or switches.padded
        if not has_mask and (made := _without_mask(graph, structure)):
            named.append(graph.hold(made))
        if structure.positions:
            learned = graph.hold(_learned_positions(graph, structure, switches))
            named.append(learned)
            x = graph.replace(x, add(graph, x, learned))
        if structure.embedding_norm:
            # Its output is what the layers hand on, and counts as that.
            x = graph.replace(x, norm(graph, structure.embedding_norm, x, switches, RESIDUAL))
        if structure.embedding_dropout:
            x = graph.replace(x, dropout(graph, x))
    inputs = graph.hold(_inputs_of_layers(graph, structure, switches, x))
    with graph.cause(INPUTS):
        given = switches.packed or switches.sequence_by is not None
        positions = graph.hold(_positions(graph, structure, x.each, given=given))
        masks = graph.hold(_masks(graph, switches))
        if structure.idle_mask and switches.layers[0].kernel != "flash_attention_2":
            named.append(graph.hold(_mask(graph, switches, eager=switches.layers[0].kernel == "eager")))
        # Positions of a ring's two chunks look like two documents: a mask is made, and attention does not get it.
        unread = graph.hold([_mask(graph, switches, eager=False)] if switches.sequence_by == "ring" else [])
        tables = graph.hold(_tables(graph, structure, switches))
    if graph.offloading is not None and graph.leaf_input is not None and leaf.buffer is not None:
        graph.offloading.keep_with_node(leaf.buffer)
    # The graph holds the embedding's output as a leaf where peft made it require a gradient.
    leaves = (leaf,) if leaf is not x and switches.checkpointing and not switches.trains_embedding else ()
    pair = (tables[0], tables[1]) if tables else None
    full = (tables[2], tables[3]) if len(tables) > len(_TABLES) else None
    held = (*leaves, *unread, *(Value(buffer, 8, ("batch",)) for buffer in ids))
    return (
        x,
        (*replaced, *named),
        Shared(
            pair,
            masks[-1] if masks else None,
            held,
            full_tables=full,
            full_mask=masks[0] if len(masks) > 1 else None,
            layer_inputs=inputs,
        ),
        positions,
    )


@framed
def _learned_positions(graph: Graph, structure: Structure, switches: Switches) -> Value:
    """Looked up as tokens are, of each sequence or once for all; of these few the gradient is written directly."""
    each, dims = switches.residual, ("T" if structure.positions_each else "s", "h")
    weight = Edge(leaf=True)

    def backward(_: Buffer) -> Outcome:
        return ((weight, graph.new(each, ("positions", "h"), GRADIENTS)),)

    edge = graph.node(backward) if switches.trains_base else None
    return Value(graph.new(each, dims), each, dims, edge)


def _of_leaf(graph: Graph) -> Backward:
    """What becomes of the gradient of the embedded tokens: it goes with the graph."""

    def kept(grad: Buffer) -> Outcome:
        if graph.offloading is not None:
            graph.offloading.keep_with_node(grad)
        return ()

    return kept


@framed
def _media_replaced(graph: Graph) -> tuple[Value, ...]:
    """Which ids are of pictures, videos, sounds or any, and the ids without them (Gemma4Model.forward)."""
    with graph.cause(INPUTS):
        masks = graph.hold([Value(graph.new(1, ("T",)), 1, ("T",)) for _ in ("pictures", "videos", "sounds", "any")])
        return (*masks, Value(graph.new(8, ("T",)), 8, ("T",)))


@framed
def _without_mask(graph: Graph, structure: Structure) -> Value | None:
    """What is made where no attention mask is given: BLOOM's slopes, a mask of ones by which OPT counts positions."""
    dims = ("H",) if _has_alibi(structure) else ("T",) if structure.positions and structure.positions_each else None
    return Value(graph.new(4, dims, INPUTS), 4, dims) if dims else None


def _has_alibi(structure: Structure) -> bool:
    return any(isinstance(block.attention, Attention) and block.attention.alibi for block in structure.blocks)


def _positions(graph: Graph, structure: Structure, each: int, *, given: bool) -> Value | None:
    """Position ids, unless they came with the batch; or ALiBi's slopes by position in the hidden states' dtype
    (`build_alibi_tensor`).
    """
    if _has_alibi(structure):
        return Value(graph.new(each, ("b", "H", "s")), each, ("b", "H", "s"))
    if given:
        return None
    dims = ("T",) if structure.positions_each else ("s",)
    counted = graph.new(8, dims)  # to which the length of a cache is added
    positions = Value(graph.new(8, dims), 8, dims)
    graph.release(counted)
    return positions


@framed
def _tables(graph: Graph, structure: Structure, switches: Switches) -> list[Value]:
    """cos and sin of each set; the second is of layers without a window, whose heads may have another width."""
    each = _table_width(structure, switches)
    widths = ["rotated"] * structure.rotary_sets
    if structure.rotary_wide:
        widths[-1] = "rotated wide"
    rows = "T" if structure.rotary_each else "s"
    # Complex numbers of 8 bytes for each pair of columns, which count as cos and sin.
    make = _polar if _is_complex(structure) else _cos_and_sin
    return [table for width in widths for table in graph.hold(make(graph, (rows, width), each))]


@framed
def _cos_and_sin(graph: Graph, dims: tuple[str, str], each: int) -> list[Value]:
    """LlamaRotaryEmbedding.forward: angles, all columns of them, cos and sin times the attention's scaling; then the
    hidden states' dtype, which is a copy unless that is float32.
    """
    graph.hold(_angles(graph, dims))
    graph.hold(graph.new(4, dims))
    wide = [graph.hold(_scaled(graph, dims)) for _ in _TABLES]
    return [Value(buffer if each == 4 else graph.new(each, dims), each, dims) for buffer in wide]


@framed
def _polar(graph: Graph, dims: tuple[str, str], each: int) -> list[Value]:
    """Llama4TextRotaryEmbedding.forward: numbers of length 1 at the angles, times the attention's scaling."""
    graph.hold(_angles(graph, dims))
    ones = graph.hold(graph.new(4, dims, den=2))
    graph.hold(graph.new(4, dims))
    graph.release(ones)
    return [Value(graph.new(each, dims), each, dims) for _ in _TABLES]


@framed
def _angles(graph: Graph, dims: tuple[str, str]) -> Buffer:
    """Positions in float32 times the frequencies, of which there is one for each pair of columns."""
    graph.hold(graph.new(4, dims[:1]))
    return graph.new(4, dims, den=2)


@framed
def _scaled(graph: Graph, dims: tuple[str, str]) -> Buffer:
    """`emb.cos() * self.attention_scaling`."""
    graph.hold(graph.new(4, dims))
    return graph.new(4, dims)


@framed
def _inputs_of_layers(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value | None:
    if structure.layer_inputs is None:
        return None
    outside = replace(switches.layers[0], adapters=switches.outside.adapters, fused=switches.outside.fused)
    return layer_inputs(graph, structure.layer_inputs, x, Projector(graph, switches, outside))


def _is_complex(structure: Structure) -> bool:
    kinds = (block.attention for block in structure.blocks)
    return any(kind.rotary == "complex" for kind in kinds if isinstance(kind, Attention | Latent))


def _table_width(structure: Structure, switches: Switches) -> int:
    """Bytes per column of cos and of sin; a complex table of 8 bytes per pair of columns counts as both."""
    if _is_complex(structure):
        return 2
    return 4 if structure.rotary_float else switches.residual


def _masks(graph: Graph, switches: Switches) -> list[Value]:
    """One byte per pair of tokens for sdpa, the model's dtype for eager, for each reach of attention that needs one.

    masking_utils.py sdpa_mask and eager_mask: causal, then padding, then both. Without a padding mask, all sequences
    share one boolean mask, an expanded view; eager's is written out for each.
    """
    kinds = sorted({(layer.windowed, layer.kernel == "eager") for layer in switches.layers if layer.masked})
    return [_mask(graph, switches, eager=eager) for _, eager in kinds]


@framed
def _mask(graph: Graph, switches: Switches, *, eager: bool) -> Value:
    of_each = switches.padded or switches.collated or eager or switches.sequence_by == "ring"
    dims = ("T", "s") if of_each else ("s", "s")
    mask = graph.hold(Value(graph.new(1, dims, MASK), 1, dims))
    return Value(graph.new(switches.residual, dims, MASK), switches.residual, dims) if eager else mask


@framed
def _input_edge(
    graph: Graph, switches: Switches, tokens: Buffer | None, merged: Value | None, *, tied: bool
) -> Edge | None:
    """Who wants the gradient of the embedded tokens.

    A trained embedding makes a dense gradient of its own size; where it is the head, too, both gradients meet before
    they are accumulated; copies of a tied pair are two tensors. With checkpointing, peft lets the output require grad
    (enable_input_require_grads) and nothing further happens; without either, no gradient is asked for.
    """
    if not switches.trains_embedding:
        graph.leaf_input = graph.node(_of_leaf(graph)) if switches.checkpointing else None
        return graph.leaf_input
    if merged:
        to_rows, width = merged.edge, merged.each

        def to_merged(_: Buffer) -> Outcome:
            return ((to_rows, embedding_gradient(graph, width, ("V", "h"), "embedding rows", MERGED)),)

        return graph.node(to_merged, graph.save(tokens))
    weight, each = Edge(leaf=True), switches.copies.width if switches.copies.embedding else switches.residual
    if tied and (switches.trains_base or switches.copies.tied):
        leaf = weight
        weight = graph.head = graph.node(lambda grad: ((leaf, grad),))

    def backward(_: Buffer) -> Outcome:
        return ((weight, embedding_gradient(graph, each, ("V", "h"), "embedding rows")),)

    return graph.node(backward, graph.save(tokens))
