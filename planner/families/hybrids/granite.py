"""Granite 4: Granite 3 with a fused MLP, perhaps experts before it, and Mamba 2 layers in the place of attention.

Source: transformers 5.23 models/granitemoehybrid/{configuration,modeling}_granitemoehybrid.py.
"""

from dataclasses import replace

from planner.families.config import Fields
from planner.families.hybrids.mamba import mamba2_mixer, mixer_sizes, modern
from planner.families.kinds import in_turn, mixed_layers
from planner.families.llama import LAYER, attention, sizes_of, two_norms
from planner.families.moe import expert_sizes, experts
from planner.families.parts import Block, Decoder, GatedMlp, Linear


def granite_hybrid(fields: Fields) -> Decoder:
    """`layer_types` says which layers attend; where it is silent, none does."""
    kinds = _kinds(fields)
    bias, turns = fields.flag("attention_bias"), fields.text("position_embedding_type", default="") == "rope"
    beside = GatedMlp(
        gate=None, up=None, fused=Linear("shared_mlp.input_linear", "2S", "h"),
        down=Linear("shared_mlp.output_linear", "h", "S"),
    )  # fmt: skip
    routes = fields.count("num_local_experts", default=8, least=0) > 0
    attends = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(bias=bias, out_bias=bias, rotary="full" if turns else "none"),
        mlp=experts("block_sparse_moe.", "router", routing="top_softmax", shared=beside) if routes else beside,
        scaled_residual=True,
    )
    mixer = mamba2_mixer("mamba", bias=fields.flag("mamba_proj_bias"), conv_bias=fields.flag("mamba_conv_bias", True))
    mixes = replace(attends, attention=mixer)
    sizes = sizes_of(fields)
    # The fused projection is cut into halves of I columns.
    sizes["I"] = sizes["S"] = fields.count("shared_intermediate_size", default=1024)
    sizes["2S"] = 2 * sizes["S"]
    if routes:
        sizes |= expert_sizes(fields, ("num_local_experts",), ("num_experts_per_tok",), ("intermediate_size",))
    if "linear_attention" in kinds:
        sizes |= mixer_sizes(fields)
    full = [kind == "full_attention" for kind in kinds]
    blocks = in_turn([attends if attending else mixes for attending in full], full)
    return mixed_layers(
        fields, [(block, {}) for block in blocks], sizes, embedding_scaled="outside", logits_scaled=True,
        rotary_sets=1 if turns else 0, hands_on_positions=False,
        stacked_in_checkpoint=routes,
    )  # fmt: skip


def _kinds(fields: Fields) -> list[str]:
    layers = fields.count("num_hidden_layers")
    listed = fields.list_of("layer_types", layers)
    if listed is None:
        return ["linear_attention"] * layers
    kinds = [modern(str(kind)) for kind in listed]
    unknown = sorted(set(kinds) - {"linear_attention", "full_attention"})
    if unknown:
        fields.problem("layer_types", f"may name mamba and attention layers, not {unknown[0][:60]}")
    return kinds
