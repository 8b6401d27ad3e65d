"""Qwen3-Next and Qwen3.5 (text): three gated delta-net layers to one of gated attention, dense or with experts.

Sources: transformers 5.23, models/{qwen3_next,qwen3_5,qwen3_5_moe}/{configuration,modeling}_*.py.
"""

from dataclasses import replace

from planner.families.config import Fields
from planner.families.kinds import every, in_turn, mixed_layers
from planner.families.llama import LAYER, attention, gated_mlp, head_norm, sizes_of, two_norms
from planner.families.mixers import DeltaNet
from planner.families.moe import expert_sizes, experts, shared
from planner.families.parts import Attention, Block, Decoder, Linear, Norm
from planner.families.variants import rotary_sizes


def qwen3_next(fields: Fields) -> Decoder:
    """Every `full_attention_interval`-th layer attends to all tokens; the others keep a state."""
    layers, first = fields.count("num_hidden_layers"), fields.model_type == "qwen3_next"
    linear = every(fields.count("full_attention_interval", default=4), layers)
    listed = fields.list_of("layer_types", layers)
    if listed is not None:
        linear = tuple(kind == "linear_attention" for kind in listed)
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("rms_gemma"),
        attention=_attention(fields),
        mlp=gated_mlp(),
    )
    sparse, dense = _sparse(fields, block), _dense_layers(fields, layers)
    net = _delta_net(fields, first)
    blocks = [
        replace(block if index in dense else sparse, attention=net if keeps_state else block.attention)
        for index, keeps_state in enumerate(linear)
    ]
    return mixed_layers(
        fields,
        [(kind, {}) for kind in in_turn(blocks, [not keeps_state for keeps_state in linear])],
        _sizes(fields),
        final_norm=Norm("model.norm", "h", "rms_gemma"),
        rotary_each=not first,  # positions have a row for each axis of an image, expanded for every sequence
    )


def _attention(fields: Fields) -> Attention:
    bias = fields.flag("attention_bias")
    whole = attention(
        bias=bias,
        out_bias=bias,
        q_norm=head_norm("self_attn.q_norm", "H", "rms_gemma"),
        k_norm=head_norm("self_attn.k_norm", "K", "rms_gemma"),
        rotary="partial",
        gated=True,
    )
    return replace(whole, q=Linear("self_attn.q_proj", "2q", "h", bias))


def _delta_net(fields: Fields, first: bool) -> DeltaNet:
    """Qwen3-Next has two projections where Qwen3.5 has four."""
    name = "linear_attn.in_proj_"
    return DeltaNet(
        qkv=Linear(f"{name}qkvz", "qkvz", "h") if first else Linear(f"{name}qkv", "conv", "h"),
        z=None if first else Linear(f"{name}z", "value", "h"),
        b=Linear(f"{name}ba", "2Hv", "h") if first else Linear(f"{name}b", "Hv", "h"),
        a=None if first else Linear(f"{name}a", "Hv", "h"),
        out=Linear("linear_attn.out_proj", "h", "value"),
        norm=Norm("linear_attn.norm", "dv", "rms"),
        repeats=fields.count("linear_num_key_heads") != fields.count("linear_num_value_heads"),
    )


def _sparse(fields: Fields, block: Block) -> Block:
    if fields.model_type == "qwen3_5_text":
        return block
    routed = experts(
        shared=shared("mlp.shared_expert."),
        shared_gate=Linear("mlp.shared_expert_gate", "one", "h"),
        normed=fields.flag("norm_topk_prob", True),
        narrow=True,
    )
    return replace(block, mlp=routed)


def _dense_layers(fields: Fields, layers: int) -> set[int]:
    """Of Qwen3-Next, those that `mlp_only_layers` or `decoder_sparse_step` leave without experts."""
    if fields.model_type != "qwen3_next":
        return set()
    only = fields.places("mlp_only_layers") or ()
    step = fields.count("decoder_sparse_step", default=1)
    return {index for index in range(layers) if index in only or (index + 1) % step}


def _sizes(fields: Fields) -> dict[str, int]:
    sizes = rotary_sizes(fields, sizes_of(fields), 0.25)
    key_heads, value_heads = fields.count("linear_num_key_heads"), fields.count("linear_num_value_heads")
    dk, dv = fields.count("linear_key_head_dim"), fields.count("linear_value_head_dim")
    key, value = key_heads * dk, value_heads * dv
    if value_heads % key_heads:
        fields.problem("linear_num_value_heads", f"must be a multiple of linear_num_key_heads ({key_heads})")
    sizes |= {
        "2q": 2 * sizes["q"], "key": key, "value": value, "conv": 2 * key + value, "qkvz": 2 * key + 2 * value,
        "Hk": key_heads, "Hv": value_heads, "2Hv": 2 * value_heads, "dk": dk, "dv": dv, "one": 1,
        "conv kernel": fields.count("linear_conv_kernel_dim", default=4),
    }  # fmt: skip
    if fields.model_type != "qwen3_5_text":
        sizes |= expert_sizes(fields, ("num_experts",), ("num_experts_per_tok",), ("moe_intermediate_size",))
        sizes["S"] = fields.count("shared_expert_intermediate_size")
    return sizes
