"""Gated decoders that differ from Llama in a norm, a fused projection, a residual or a rotary detail.

Sources: transformers 5.23, modeling_*.py of phi3, glm, glm4, granite, olmo, olmo2, olmo3, exaone4, cohere, cohere2
and stablelm.
"""

from dataclasses import replace
from typing import Any

from planner.families.config import Fields
from planner.families.kinds import every, mixed_layers, sliding_layers
from planner.families.llama import LAYER, attention, drops, gated_mlp, head_norm, same_layers, sizes_of, tied, two_norms
from planner.families.parts import Attention, Block, Decoder, GatedMlp, Linear, Norm


def rotary_sizes(fields: Fields, sizes: dict[str, int], default: float = 1.0) -> dict[str, int]:
    """`rot`, the rotated columns of a head; `q rot` and `k rot` for all heads of a token."""
    nested = fields.values.get("rope_parameters")
    factor = fields.number("partial_rotary_factor")
    if factor is None and isinstance(nested, dict) and isinstance(nested.get("partial_rotary_factor"), int | float):
        factor = nested["partial_rotary_factor"]
    if factor is not None and not 0 <= factor <= 1:
        fields.problem("partial_rotary_factor", f"must be from 0 to 1, not {repr(factor)[:60]}")
        factor = default
    rot = int(sizes["d"] * (default if factor is None else factor))
    return {**sizes, "rot": rot, "q rot": rot * sizes["H"], "k rot": rot * sizes["K"]}


def fused_mlp() -> GatedMlp:
    """`gate_up_proj` gives gate and up at once."""
    return GatedMlp(
        gate=None,
        up=None,
        down=Linear("mlp.down_proj", "h", "I"),
        fused=Linear("mlp.gate_up_proj", "2I", "h"),
    )


def with_fused(sizes: dict[str, int]) -> dict[str, int]:
    """Add the widths of fused projections."""
    return {**sizes, "2I": 2 * sizes["I"], "qkv": sizes["q"] + 2 * sizes["k"]}


def phi3(fields: Fields) -> Decoder:
    """Phi-3 and Phi-4: one qkv projection, one gate_up projection, a window that may be wider than the context."""
    sizes = rotary_sizes(fields, with_fused(sizes_of(fields)))
    window = fields.number("sliding_window") is not None
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=Attention(
            q=None, k=None, v=None,
            fused=Linear("self_attn.qkv_proj", "qkv", "h"),
            o=Linear("self_attn.o_proj", "h", "q"),
            rotary="partial_cat",
            window=window,
        ),
        mlp=fused_mlp(),
        dropout=drops(fields, "resid_pdrop"),
    )  # fmt: skip
    return same_layers(fields, block, {**sizes, **({"window": fields.count("sliding_window")} if window else {})})


def glm(fields: Fields) -> Decoder:
    """GLM-4: half of each head rotated, interleaved; GLM-4-0414 adds norms after attention and MLP."""
    fourth = fields.model_type == "glm4"
    norms: tuple[Norm, ...] = two_norms()
    if fourth:
        norms = (norms[0], Norm("post_self_attn_layernorm", "h"), norms[1], Norm("post_mlp_layernorm", "h"))
    block = Block(
        prefix=LAYER,
        wiring="sandwich" if fourth else "pre",
        norms=norms,
        attention=attention(bias=fields.flag("attention_bias"), rotary="interleaved"),
        mlp=fused_mlp(),
    )
    return same_layers(fields, block, rotary_sizes(fields, with_fused(sizes_of(fields)), 0.5))


def granite(fields: Fields) -> Decoder:
    """Granite 3: Llama with scaled embeddings, residuals and logits."""
    bias = fields.flag("attention_bias")
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(bias=bias, out_bias=bias),
        mlp=gated_mlp(bias=fields.flag("mlp_bias")),
        scaled_residual=True,
    )
    return same_layers(fields, block, sizes_of(fields), embedding_scaled="outside", logits_scaled=True)


def olmo(fields: Fields) -> Decoder:
    """OLMo 1: norms without weights, computed in float32."""
    bias = fields.flag("attention_bias")
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("layer_float", weight=False),
        attention=attention(bias=bias, out_bias=bias, rotary="float_tables"),
        mlp=gated_mlp(),
    )
    final = Norm("model.norm", "h", "layer_float", weight=False)
    return same_layers(fields, block, sizes_of(fields), final_norm=final, rotary_float=True)


def after_norms(kind: Any) -> tuple[Norm, Norm]:
    """The pair of decoders that normalise what attention and MLP return."""
    return Norm("post_attention_layernorm", "h", kind), Norm("post_feedforward_layernorm", "h", kind)


def olmo2(fields: Fields) -> Decoder:
    """OLMo 2 and 3: norms after attention and MLP, one wide norm over all of q and of k; OLMo 3 slides."""
    third = fields.model_type == "olmo3"
    bias = fields.flag("attention_bias")
    full = Block(
        prefix=LAYER,
        wiring="post",
        norms=after_norms("rms_cast"),
        attention=attention(
            bias=bias,
            out_bias=bias,
            q_norm=Norm("self_attn.q_norm", "q", "rms_cast"),
            k_norm=Norm("self_attn.k_norm", "k", "rms_cast"),
            rotary="float_tables",
        ),
        mlp=gated_mlp(),
    )
    final = Norm("model.norm", "h", "rms_cast")
    sizes = sizes_of(fields)
    if not third:
        return same_layers(fields, full, sizes, final_norm=final, rotary_float=True)
    return mixed_layers(
        fields, _sliding(fields, full, 4), sizes, final_norm=final, rotary_float=True, rotary_sets=2
    )


def _sliding(fields: Fields, full: Block, period: int) -> list[tuple[Block, dict[str, int]]]:
    layers = fields.count("num_hidden_layers")
    if not isinstance(full.attention, Attention) or fields.number("sliding_window") is None:
        return [(full, {})] * layers
    sliding = replace(full, attention=replace(full.attention, window=True))
    window = {"window": fields.count("sliding_window")}
    return [
        (sliding, window) if slides else (full, {}) for slides in sliding_layers(fields, every(period, layers))
    ]


def _period(fields: Fields) -> int:
    """How many layers until the pattern repeats: a number, or EXAONE's letters, "LLLG". Layers listed need neither."""
    pattern = fields.values.get("sliding_window_pattern")
    return len(pattern) if isinstance(pattern, str) and pattern else fields.count("sliding_window_pattern", default=4)


def cwm(fields: Fields) -> Decoder:
    """Code World Model: Llama's layer, three in four of them with a sliding window, the first of each four without."""
    layers = fields.count("num_hidden_layers")
    whole = attention()
    full = Block(
        prefix=LAYER, wiring="pre", norms=two_norms(), attention=whole, mlp=gated_mlp(bias=fields.flag("mlp_bias"))
    )
    slides = sliding_layers(fields, [index % 4 != 0 for index in range(layers)])
    sliding = (replace(full, attention=replace(whole, window=True)), {"window": fields.count("sliding_window")})
    return mixed_layers(fields, [sliding if slide else (full, {}) for slide in slides], sizes_of(fields))


def exaone4(fields: Fields) -> Decoder:
    """EXAONE 4: norms after attention and MLP, q and k norms per head; full layers carry no positions."""
    full = Block(
        prefix=LAYER,
        wiring="post",
        norms=after_norms("rms"),
        attention=attention(q_norm=head_norm("self_attn.q_norm", "H"), k_norm=head_norm("self_attn.k_norm", "K")),
        mlp=gated_mlp(),
    )
    layers = _sliding(fields, full, _period(fields))
    if isinstance(full.attention, Attention) and fields.number("sliding_window") is not None:
        blind = replace(full, attention=replace(full.attention, rotary="none"))
        layers = [(blind, {}) if block == full else (block, own) for block, own in layers]
    return mixed_layers(fields, layers, sizes_of(fields))


def cohere(fields: Fields) -> Decoder:
    """Command R, Aya: one norm, attention and MLP side by side, rotation in float32; Command R7B slides."""
    qk, bias = fields.flag("use_qk_norm"), fields.flag("attention_bias")
    full = Block(
        prefix=LAYER,
        wiring="parallel",
        norms=(Norm("input_layernorm", "h", "cohere"),),
        attention=attention(
            bias=bias,
            out_bias=bias,
            q_norm=Norm("self_attn.q_norm", "d", "cohere", per=("H",), stored_per=("H",)) if qk else None,
            k_norm=Norm("self_attn.k_norm", "d", "cohere", per=("K",), stored_per=("K",)) if qk else None,
            rotary="float",
        ),
        mlp=gated_mlp(),
    )
    more: dict[str, Any] = {
        "final_norm": Norm("model.norm", "h", "cohere"), "tied": tied(fields, True), "logits_scaled": True,
    }  # fmt: skip
    if fields.model_type == "cohere":
        return same_layers(fields, full, sizes_of(fields), **more)
    layers = _sliding(fields, full, fields.count("sliding_window_pattern", default=4))
    if isinstance(full.attention, Attention):
        blind = replace(full, attention=replace(full.attention, rotary="none"))
        layers = [(blind, {}) if block == full else (block, own) for block, own in layers]
    return mixed_layers(fields, layers, sizes_of(fields), **more)


def stablelm(fields: Fields) -> Decoder:
    """StableLM 2: LayerNorm, a quarter of each head rotated."""
    bias = fields.flag("use_qkv_bias")
    if fields.flag("qk_layernorm") or fields.flag("use_parallel_residual"):
        fields.problem("qk_layernorm", "and use_parallel_residual are not known to the formulas; try the dry run")
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("layer", bias=True),
        attention=attention(bias=bias, rotary="partial", names_parts=True),
        mlp=gated_mlp(),
        lingers="both",
    )
    sizes = rotary_sizes(fields, sizes_of(fields), 0.25)
    return same_layers(fields, block, sizes, final_norm=Norm("model.norm", "h", "layer", bias=True))
