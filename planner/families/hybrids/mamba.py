"""State-space mixers as the families that mix them with attention describe them."""

from planner.families.config import Fields
from planner.families.mixers import Mamba2
from planner.families.parts import Linear, Norm

# transformers 5.23 configuration_utils.py, _LEGACY_LAYER_TYPE_REMAP.
_LEGACY = {"mamba": "linear_attention", "attention": "full_attention"}


def modern(kind: str) -> str:
    """What transformers 5 calls a kind of layer that an older config names."""
    return _LEGACY.get(kind, kind)


def mamba2_mixer(name: str, *, bias: bool, conv_bias: bool) -> Mamba2:
    """The mixer under `name`."""
    return Mamba2(
        name=name,
        in_=Linear(f"{name}.in_proj", "zxBCdt", "h", bias),
        out=Linear(f"{name}.out_proj", "h", "value", bias),
        norm=Norm(f"{name}.norm", "value"),
        conv_bias=conv_bias,
    )


def mamba2_sizes(fields: Fields, *, heads: int, width: int, groups: int, state: int) -> dict[str, int]:
    """`width` columns per head; B and C have `state` columns for each group of heads."""
    value = heads * width
    if heads % groups:
        fields.problem("n_groups", f"must divide the Mamba heads ({heads}), {groups} does not")
    conv = value + 2 * groups * state
    return {
        "Hm": heads, "dp": width, "value": value, "G": groups, "n": state, "group": max(1, value // groups),
        "conv": conv, "zxBCdt": value + conv + heads, "one": 1,
    }  # fmt: skip


def mixer_sizes(fields: Fields) -> dict[str, int]:
    """The numbers of a mixer under the names that Granite 4 and Bamba give them."""
    heads = fields.count("mamba_n_heads", default=128)
    inner = fields.count("mamba_expand", default=2) * fields.count("hidden_size")
    width = inner // heads
    if fields.values.get("mamba_d_head") not in {None, "auto"}:
        width = fields.count("mamba_d_head")
    if heads * width != inner:
        fields.problem("mamba_d_head", f"times mamba_n_heads ({heads}) must be {inner}, mamba_expand x hidden_size")
    sizes = mamba2_sizes(
        fields, heads=heads, width=width, groups=fields.count("mamba_n_groups", default=1),
        state=fields.count("mamba_d_state", default=256),
    )  # fmt: skip
    return sizes | {
        "conv kernel": fields.count("mamba_d_conv", default=4), "chunk": fields.count("mamba_chunk_size", default=256),
    }  # fmt: skip
