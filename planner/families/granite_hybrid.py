"""Granite 4 where every layer attends (granite-4.0-micro): Granite 3 with a fused MLP, and perhaps experts before it.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py. Its Mamba layers are not described.
"""

from planner.errors import UnknownArchitectureError
from planner.families.config import Fields
from planner.families.llama import LAYER, attention, same_layers, sizes_of, two_norms
from planner.families.moe import expert_sizes, experts
from planner.families.parts import Block, Decoder, GatedMlp, Linear


def granite_hybrid(fields: Fields) -> Decoder:
    """`layer_types` of attention only.

    Raises:
        UnknownArchitectureError: some layer is a Mamba layer; names the dry run.
    """
    listed = fields.list_of("layer_types", fields.count("num_hidden_layers"))
    if listed is None or any(kind not in {"attention", "full_attention"} for kind in listed):
        raise UnknownArchitectureError(
            "Mamba layers of granitemoehybrid are not known to the formulas; "
            "the dry run may know them: fitproof probe --on dry-run"
        )
    bias, turns = fields.flag("attention_bias"), fields.text("position_embedding_type", default="") == "rope"
    beside = GatedMlp(
        gate=None, up=None, fused=Linear("shared_mlp.input_linear", "2S", "h"),
        down=Linear("shared_mlp.output_linear", "h", "S"),
    )  # fmt: skip
    routes = fields.count("num_local_experts", default=8, least=0) > 0
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(bias=bias, out_bias=bias, rotary="full" if turns else "none"),
        mlp=experts("block_sparse_moe.", "router", routing="top_softmax", shared=beside) if routes else beside,
        scaled_residual=True,
    )
    sizes = sizes_of(fields)
    # The fused projection is cut into halves of I columns.
    sizes["I"] = sizes["S"] = fields.count("shared_intermediate_size", default=1024)
    sizes["2S"] = 2 * sizes["S"]
    if routes:
        sizes |= expert_sizes(fields, ("num_local_experts",), ("num_experts_per_tok",), ("intermediate_size",))
    return same_layers(
        fields, block, sizes, embedding_scaled="outside", logits_scaled=True, rotary_sets=1 if turns else 0,
    )
