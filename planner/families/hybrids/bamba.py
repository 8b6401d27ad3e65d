"""Bamba: Llama's layer with half of each head rotated, and Mamba 2 in the place of attention in most of them.

Source: transformers 5.23 models/bamba/{configuration,modeling}_bamba.py.
"""

from dataclasses import replace

from planner.families.config import Fields
from planner.families.hybrids.mamba import mamba2_mixer, mixer_sizes
from planner.families.kinds import in_turn, mixed_layers
from planner.families.llama import LAYER, attention, gated_mlp, sizes_of
from planner.families.parts import Block, Decoder, Norm
from planner.families.variants import rotary_sizes

# BambaConfig.__post_init__ sets partial_rotary_factor, whatever a config says.
_ROTATED = 0.5


def bamba(fields: Fields) -> Decoder:
    """`attn_layer_indices` says which layers attend; where it is silent, none does."""
    layers = fields.count("num_hidden_layers")
    attending = {index for index in fields.values.get("attn_layer_indices") or () if isinstance(index, int)}
    attends = Block(
        prefix=LAYER,
        wiring="pre",
        norms=(Norm("input_layernorm", "h"), Norm("pre_ff_layernorm", "h")),
        attention=attention(
            bias=fields.flag("attention_bias"), out_bias=fields.flag("attention_bias"), rotary="partial_cat"
        ),
        mlp=gated_mlp("feed_forward.", bias=fields.flag("mlp_bias")),
        returns_weights=True,
    )
    mixer = mamba2_mixer("mamba", bias=fields.flag("mamba_proj_bias"), conv_bias=fields.flag("mamba_conv_bias", True))
    mixes = replace(attends, attention=mixer)
    full = [index in attending for index in range(layers)]
    blocks = in_turn([attends if attend else mixes for attend in full], full)
    sizes = rotary_sizes(fields, sizes_of(fields), _ROTATED) | (mixer_sizes(fields) if not all(full) else {})
    return mixed_layers(fields, [(block, {}) for block in blocks], sizes, final_norm=Norm("model.final_layernorm", "h"))
