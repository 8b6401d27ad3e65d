"""LFM2: Llama's layer with head norms, and a gated short convolution in the place of attention in most of them.

Source: transformers 5.23 models/lfm2/{configuration,modeling}_lfm2.py.
"""

from dataclasses import replace

from planner.families.config import Fields
from planner.families.kinds import in_turn, mixed_layers
from planner.families.llama import LAYER, attention, head_norm, sizes_of
from planner.families.mixers import GatedConvolution
from planner.families.parts import Block, Decoder, GatedMlp, Linear, Norm


def lfm2(fields: Fields) -> Decoder:
    """`layer_types`, or `full_attn_idxs`, say which layers attend; where both are silent, all do."""
    layers = fields.count("num_hidden_layers")
    listed = fields.list_of("layer_types", layers)
    attending = fields.places("full_attn_idxs")
    full = [attending is None or index in attending for index in range(layers)]
    if listed is not None:
        full = [kind == "full_attention" for kind in listed]
    whole = attention(q_norm=head_norm("self_attn.q_layernorm", "H"), k_norm=head_norm("self_attn.k_layernorm", "K"))
    attends = Block(
        prefix=LAYER,
        wiring="pre",
        norms=(Norm("operator_norm", "h"), Norm("ffn_norm", "h")),
        attention=replace(whole, o=Linear("self_attn.out_proj", "h", "q")),
        mlp=GatedMlp(
            gate=Linear("feed_forward.w1", "I", "h"),
            up=Linear("feed_forward.w3", "I", "h"),
            down=Linear("feed_forward.w2", "h", "I"),
        ),
    )
    bias = fields.flag("conv_bias")
    mixer = GatedConvolution(
        name="conv",
        in_=Linear("conv.in_proj", "3h", "h", bias),
        out=Linear("conv.out_proj", "h", "h", bias),
        conv_bias=bias,
    )
    blocks = in_turn([attends if attend else replace(attends, attention=mixer) for attend in full], full)
    return mixed_layers(
        fields,
        [(block, {}) for block in blocks],
        _sizes(fields),
        final_norm=Norm("model.embedding_norm", "h"),
        tied=fields.flag("tie_embedding", fields.flag("tie_word_embeddings", True)),
    )


def _sizes(fields: Fields) -> dict[str, int]:
    """Lfm2MLP makes its own width of what the config says."""
    sizes = sizes_of(fields)
    inner = fields.count("block_ff_dim", "intermediate_size")
    if fields.flag("block_auto_adjust_ff_dim", True):
        multiple = fields.count("block_multiple_of", default=256)
        inner = int((fields.number("block_ffn_dim_multiplier") or 1.0) * int(2 * inner / 3))
        inner = multiple * ((inner + multiple - 1) // multiple)
    conv = {"conv": sizes["h"], "3h": 3 * sizes["h"], "conv kernel": fields.count("conv_L_cache", default=3), "one": 1}
    return sizes | conv | {"I": inner}
