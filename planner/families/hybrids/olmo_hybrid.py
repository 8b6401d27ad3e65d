"""OLMo Hybrid: OLMo 3's attention, with norms after it, in one layer of four; a gated delta net in the others.

Source: transformers 5.23 models/olmo_hybrid/{configuration,modeling}_olmo_hybrid.py.
"""

from typing import Final

from planner.families.config import Fields
from planner.families.kinds import every, in_turn, mixed_layers
from planner.families.llama import LAYER, attention, gated_mlp, sizes_of, two_norms
from planner.families.mixers import SplitDeltaNet
from planner.families.parts import Block, Decoder, Linear, Norm
from planner.families.variants import after_norms

_KIND: Final = "rms_cast"


def olmo_hybrid(fields: Fields) -> Decoder:
    """`layer_types` says which layers attend; where it is silent every fourth does, of fewer than four the last."""
    layers, turns = fields.count("num_hidden_layers"), _turns(fields)
    listed = fields.list_of("layer_types", layers)
    attends = [not linear for linear in every(4, layers)] if layers >= 4 else [*[False] * (layers - 1), True]
    if listed is not None:
        attends = [kind == "full_attention" for kind in listed]
    if len({*attends}) == 1:
        fields.problem("layer_types", "must name at least one full_attention and one linear_attention layer")
    bias = fields.flag("attention_bias")
    attending = Block(
        prefix=LAYER,
        wiring="post",
        norms=after_norms(_KIND),
        attention=attention(
            bias=bias, out_bias=bias, rotary="float_tables" if turns else "none",
            q_norm=Norm("self_attn.q_norm", "q", _KIND), k_norm=Norm("self_attn.k_norm", "k", _KIND),
        ),
        mlp=gated_mlp(act=fields.text("hidden_act", default="silu")),
    )  # fmt: skip
    linear = Block(
        prefix=LAYER, wiring="pre", norms=two_norms(_KIND), attention=_delta_net(fields), mlp=attending.mlp
    )
    blocks = in_turn([attending if attend else linear for attend in attends], attends)
    return mixed_layers(
        fields,
        [(block, {}) for block in blocks],
        _sizes(fields),
        final_norm=Norm("model.norm", "h", _KIND),
        rotary_sets=1 if turns else 0,
        rotary_float=True,
    )


def _turns(fields: Fields) -> bool:
    """Whether attention has positions: released checkpoints write `"rope_theta": null` and have none."""
    nested = fields.values.get("rope_parameters")
    return not isinstance(nested, dict) or nested.get("rope_theta", "the class's") is not None


def _delta_net(fields: Fields) -> SplitDeltaNet:
    def linear(letter: str, out: str, in_: str = "h") -> Linear:
        return Linear(f"linear_attn.{letter}_proj", out, in_)

    keys, values = _heads(fields)
    return SplitDeltaNet(
        q=linear("q", "key"), k=linear("k", "key"), v=linear("v", "value"), a=linear("a", "Hv"), b=linear("b", "Hv"),
        gate=linear("g", "value"), out=linear("o", "h", "value"), norm=Norm("linear_attn.o_norm", "dv", "rms"),
        repeats=keys != values, doubles=fields.flag("linear_allow_neg_eigval", True),
    )  # fmt: skip


def _heads(fields: Fields) -> tuple[int, int]:
    heads = fields.count("num_attention_heads")
    return fields.count("linear_num_key_heads", default=heads), fields.count("linear_num_value_heads", default=heads)


def _sizes(fields: Fields) -> dict[str, int]:
    sizes = sizes_of(fields)
    key_heads, value_heads = _heads(fields)
    if value_heads % key_heads:
        fields.problem("linear_num_value_heads", f"must be a multiple of linear_num_key_heads ({key_heads})")
    dk = fields.count("linear_key_head_dim", default=max(1, 3 * sizes["h"] // (4 * key_heads)))
    dv = fields.count("linear_value_head_dim", default=2 * dk)
    key, value = key_heads * dk, value_heads * dv
    return sizes | {
        "key": key, "value": value, "conv": 2 * key + value, "Hk": key_heads, "Hv": value_heads, "dk": dk, "dv": dv,
        "conv kernel": fields.count("linear_conv_kernel_dim", default=4), "one": 1,
    }  # fmt: skip
