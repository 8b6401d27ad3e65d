"""The vocabulary in which a decoder is described once, for the census and for the timeline.

Widths are names ("h", "I", "q"), so that a description is the same for every size of a model; the numbers stand
beside it in `Kind.sizes` and `Decoder.sizes`. Legend of the names:

    V vocabulary   h hidden   I MLP inner width   H query heads   K key/value heads   d head_dim
    q = H*d   k = K*d (keys or values of a token)   E experts   top experts per token   J expert inner width
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from planner.families.basics import Extra, Linear, Norm, Role
from planner.families.mixers import Mixer
from planner.tensors.inventory import Census

__all__ = [
    "Attention",
    "Block",
    "Decoder",
    "Experts",
    "Extra",
    "GatedMlp",
    "Indexer",
    "Latent",
    "LayerInput",
    "LayerInputs",
    "Linear",
    "Mixer",
    "Mlp",
    "Norm",
    "Once",
    "ParallelExperts",
    "PlainMlp",
    "Role",
    "Rotary",
    "Structure",
]  # fmt: skip

Rotary = Literal[
    "full", "float_halves", "partial", "partial_cat", "interleaved", "float", "float_tables", "halves", "complex",
    "gathered", "none",
]


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention. `fused` holds a single qkv projection in place of three, `cut` says how it is taken apart:
    slices of columns, chunks of each head's columns, groups of query heads with one key and value each (Falcon), or
    one such group.

    `rotary` names how positions enter: full, a part of each head (written with slices), a part of it concatenated in
    one call (partial_cat), interleaved pairs, in float32, with float32 tables, half tables, complex numbers, or none.

    `names_parts`: the layer's own forward turns a part of each head, and names what it turned and what it did not.
    `gated`: the query projection gives a gate for the output, too (Qwen3-Next). `scales_query`: the layer scales
    queries itself, in a tensor of their own (OPT).
    `keys`: this layer makes its own, stores them for later layers, or reuses those stored (Gemma 4). With `v_norm` and
    without `v`, values are made of the keys' projection.
    """

    q: Linear | None
    k: Linear | None
    v: Linear | None
    o: Linear
    fused: Linear | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    cut: Literal["slices", "chunks", "groups", "one group"] = "slices"
    rotary: Rotary = "full"
    names_parts: bool = False
    window: bool = False
    softcap: bool = False
    sinks: bool = False
    dropout: bool = False
    always_masked: bool = False
    alibi: bool = False
    own_scores: bool = False
    late_norm: bool = False
    tempered: bool = False
    scales_query: bool = False
    v_norm: Norm | None = None
    gated: bool = False
    keys: Literal["own", "stored", "reused"] = "own"


@dataclass(frozen=True, slots=True)
class Indexer:
    """The small network that chooses keys for DeepSeek V3.2; it has norms and weights beside these, as extras."""

    q: Linear
    k: Linear


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek): q through q_a, keys and values through kv_a and kv_b."""

    q_a: Linear | None
    q_norm: Norm | None
    q: Linear
    kv_a: Linear
    kv_norm: Norm
    kv_b: Linear
    o: Linear
    rotary: Literal["interleaved", "full", "complex"] = "interleaved"
    indexer: Indexer | None = None
    window: bool = False
    softcap: bool = False


@dataclass(frozen=True, slots=True)
class GatedMlp:
    """`down(act(gate(x)) * up(x))`; with `fused`, one projection gives gate and up."""

    gate: Linear | None
    up: Linear | None
    down: Linear
    fused: Linear | None = None
    act: str = "silu"


@dataclass(frozen=True, slots=True)
class PlainMlp:
    """`down(act(up(x)))`."""

    up: Linear
    down: Linear
    act: str = "gelu"


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts held as 3-D parameters (never quantized), with an optional shared expert.

    `routing` softmax: over all experts; top_softmax: over the chosen ones; sigmoid: each for itself; dense: every
    expert computes every token (Llama 4). `float_router`: hidden states and weight are made float32 first;
    `float_scores`: the logits are. `normed`, `scaled`, `narrow`: the weights are divided by their sum, multiplied by
    a constant, cast back to the logits' dtype.
    """

    router: Linear
    up: Linear
    down: Linear
    gated: bool = True
    act: str = "silu"
    bias: bool = False
    shared: GatedMlp | PlainMlp | None = None
    shared_gate: Linear | None = None
    routing: Literal["softmax", "top_softmax", "sigmoid", "sparsemixer", "dense"] = "softmax"
    float_router: bool = False
    float_scores: bool = True
    normed: bool = False
    scaled: bool = False
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class ParallelExperts:
    """Gemma 4's experts beside a dense MLP: they read the residual stream, the router through a norm and two scales.

    `norms`: of the MLP's output, of the experts' output, of the experts' input.
    """

    experts: Experts
    router_norm: Norm
    scales: tuple[Extra, Extra]
    norms: tuple[Norm, Norm, Norm]


@dataclass(frozen=True, slots=True)
class LayerInput:
    """`x + norm(projection(act(gate(x)) * input))`, the input being this layer's share of `LayerInputs`."""

    gate: Linear
    projection: Linear
    norm: Norm
    act: str


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """A second embedding, and a projection of the first, `P` columns for each of `L` layers (Gemma 4 E2B, E4B)."""

    embedding: str
    projection: Linear
    norm: Norm


Mlp = GatedMlp | PlainMlp | Experts


Once = Literal["", "first", "last"]


@dataclass(frozen=True, slots=True)
class Block:
    """One kind of layer.

    wiring  pre:      x + attn(norm1(x)), then x + mlp(norm2(x))
            sandwich: x + norm2(attn(norm1(x))), then x + norm4(mlp(norm3(x)))
            post:     x + norm1(attn(x)), then x + norm2(mlp(x))
            parallel: x + attn(norm1(x)) + mlp(norm1 or norm2(x)), or the residual last
            single:   x + attn(norm1(x)), or the same with an MLP

    `lingers`: attention's output, or its input too, keeps a name in the layer's code and so its memory until the layer
    is done. `norms_first`: both norms of a parallel layer are computed before either half; `residual_last`: its halves
    are added to each other first. `scaled_output`: the result is multiplied in place. `returns_weights`: the layer
    returns its attention weights, too. `once`: the first or last of its like, one layer only: the step makes or frees
    in it what its like share. `early`: no layer has widened the residual stream yet, as an MLP does whose activation
    autocast runs in float32. `mlp_inline`: the layer's own code runs a plain MLP, and names its input no longer when it
    has been multiplied.
    """

    prefix: str
    wiring: Literal["pre", "sandwich", "post", "parallel", "single"]
    norms: tuple[Norm, ...]
    attention: Attention | Latent | Mixer | None
    mlp: Mlp | None
    scaled_residual: bool = False
    mlp_inline: bool = False
    dropout: bool = False
    lingers: Literal["", "output", "both"] = ""
    norms_first: bool = False
    residual_last: bool = False
    parallel_experts: ParallelExperts | None = None
    layer_input: LayerInput | None = None
    scaled_output: bool = False
    returns_weights: bool = False
    once: Once = ""
    early: bool = False
    extras: tuple[Extra, ...] = ()


@dataclass(frozen=True, slots=True)
class Structure:
    """Everything about a decoder but its numbers; equal for all sizes of one model.

    `embedding_scaled`: the factor is applied inside the embedding module (Gemma) or to what it returns (Granite).
    `rotary_wide`: the last set of rotary tables is for heads of another width. `rotary_each`: every sequence has tables
    of its own. `idle_mask`: a sliding mask is made that no layer reads. `positions_each`: learned
    positions are looked up for every sequence. `replaces_media`: ids that stand for pictures, videos and sounds are
    looked for and replaced in a copy of the ids. `hands_on_positions`: layers are called with position ids, which a
    checkpoint keeps.
    """

    embedding: str
    blocks: tuple[Block, ...]
    final_norm: Norm | None
    head: Linear
    tied: bool
    positions: str = ""
    embedding_width: str = ""
    embedding_norm: Norm | None = None
    embedding_scaled: Literal["", "inside", "outside"] = ""
    logits_scaled: bool = False
    logits_softcap: bool = False
    logits_float: bool = False
    rotary_sets: int = 1
    rotary_float: bool = False
    rotary_wide: bool = False
    rotary_each: bool = False
    layer_inputs: LayerInputs | None = None
    embedding_dropout: bool = False
    idle_mask: bool = False
    positions_each: bool = False
    replaces_media: bool = False
    hands_on_positions: bool = True
    extras: tuple[Extra, ...] = ()


# Compared by identity: what is worked out for a decoder is kept for that decoder, and found without hashing its parts.
@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """A model as the formulas see it; `towers` are weights that text never meets.

    `kept_from_float16`: parts of the names of what a load in float16 leaves in float32 (`_keep_in_fp32_modules`).
    `stacked_in_checkpoint`: the checkpoint holds a layer's experts in one tensor, as the model does.

    `order` gives the block kind of each layer, `kind_sizes` each kind's numbers.
    """

    model_type: str
    structure: Structure
    sizes: Mapping[str, int]
    kind_sizes: tuple[Mapping[str, int], ...]
    order: tuple[int, ...]
    default_attention: Literal["sdpa", "eager"] = "sdpa"
    notes: tuple[str, ...] = field(default=())
    towers: Census = ()
    kept_from_float16: tuple[str, ...] = ()
    stacked_in_checkpoint: bool = False

    @property
    def layers(self) -> int:
        """How many blocks the decoder has."""
        return len(self.order)
