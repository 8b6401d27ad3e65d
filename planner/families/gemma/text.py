"""Gemma 1, 2 and 3 (text).

Sources: transformers 5.23, models/{gemma,gemma2,gemma3}/modeling_*.py. Norms multiply in float32 by (1 + weight);
embeddings are scaled by sqrt(h); Gemma 2 runs eager attention by default (`_supports_sdpa = False`).
"""

from dataclasses import replace
from typing import Any

from planner.families.config import Fields
from planner.families.kinds import every, mixed_layers, sliding_layers
from planner.families.llama import LAYER, attention, gated_mlp, head_norm, same_layers, sizes_of, tied, two_norms
from planner.families.parts import Block, Decoder, Norm

_FINAL = Norm("model.norm", "h", "rms_gemma")


def gemma(fields: Fields) -> Decoder:
    """Gemma 1: Llama's wiring with its own norms, GELU, a tied head."""
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("rms_gemma"),
        attention=attention(bias=fields.flag("attention_bias"), out_bias=fields.flag("attention_bias")),
        mlp=gated_mlp(act="gelu_tanh"),
    )
    return same_layers(
        fields, block, sizes_of(fields), final_norm=_FINAL, tied=tied(fields, True), embedding_scaled="inside"
    )


def gemma2(fields: Fields) -> Decoder:
    """Gemma 2 and Gemma 3: norms before and after both halves, sliding and full layers in turn."""
    third = fields.model_type == "gemma3_text"
    sizes, layers = sizes_of(fields), fields.count("num_hidden_layers")
    bias = fields.flag("attention_bias")
    heads: dict[str, Any] = {
        "bias": bias, "out_bias": bias, "softcap": fields.number("attn_logit_softcapping") is not None,
        "q_norm": head_norm("self_attn.q_norm", "H", "rms_gemma") if third else None,
        "k_norm": head_norm("self_attn.k_norm", "K", "rms_gemma") if third else None,
    }  # fmt: skip
    full = Block(
        prefix=LAYER,
        wiring="sandwich",
        norms=(
            *two_norms("rms_gemma"),
            Norm("pre_feedforward_layernorm", "h", "rms_gemma"),
            Norm("post_feedforward_layernorm", "h", "rms_gemma"),
        ),
        attention=attention(**heads),
        mlp=gated_mlp(act="gelu_tanh"),
    )
    sliding = replace(full, attention=attention(**heads, window=True))
    window = {"window": fields.count("sliding_window", default=4096)}
    slides = sliding_layers(fields, every(fields.count("sliding_window_pattern", default=6) if third else 2, layers))
    return mixed_layers(
        fields,
        [(sliding, window) if slide else (full, {}) for slide in slides],
        sizes,
        final_norm=_FINAL,
        tied=tied(fields, True),
        embedding_scaled="inside",
        rotary_sets=2 if third else 1,
        logits_softcap=fields.number("final_logit_softcapping") is not None,
        default_attention="sdpa" if third else "eager",
    )
