"""Nemotron-H: every layer is one mixer behind one norm: Mamba 2, attention without positions, an MLP, or experts.

Source: transformers 5.23 models/nemotron_h/{configuration,modeling}_nemotron_h.py.
"""

from planner.errors import UnknownArchitectureError
from planner.families.config import Fields
from planner.families.hybrids.mamba import mamba2_mixer, mamba2_sizes, modern
from planner.families.kinds import in_turn, mixed_layers
from planner.families.llama import LAYER, sizes_of
from planner.families.mixers import Mamba2
from planner.families.moe import expert_sizes
from planner.families.parts import Attention, Block, Decoder, Experts, Linear, Norm, PlainMlp

_LETTERS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}


def nemotron_h(fields: Fields) -> Decoder:
    """`layers_block_type`, or the letters of `hybrid_override_pattern`.

    Raises:
        UnknownArchitectureError: experts work in a latent space of their own; names the dry run.
    """
    if fields.values.get("moe_latent_size") is not None:
        raise UnknownArchitectureError(
            "Latent experts of nemotron_h are not known to the formulas; "
            "the dry run may know them: fitproof probe --on dry-run",
            dry_run=True,
        )
    kinds = _kinds(fields)
    mixers: dict[str, Attention | Mamba2 | PlainMlp | Experts] = {
        "linear_attention": mamba2_mixer(
            "mixer", bias=fields.flag("use_bias"), conv_bias=fields.flag("use_conv_bias", True)
        ),
        "full_attention": _attention(),
        "mlp": _mlp(fields, "mixer.", "I"),
        "moe": _experts(fields),
    }
    widens = next((index for index, kind in enumerate(kinds) if kind in {"mlp", "moe"}), len(kinds))
    blocks = [_block(mixers[kind], early=index <= widens) for index, kind in enumerate(kinds)]
    sizes = {**sizes_of(fields), **_mixer_sizes(fields)}
    if "moe" in kinds:
        sizes |= expert_sizes(fields, ("n_routed_experts",), ("num_experts_per_tok",), ("moe_intermediate_size",))
        sizes["S"] = fields.count("moe_shared_expert_intermediate_size")
    return mixed_layers(
        fields,
        [(block, {}) for block in in_turn(blocks, [kind == "full_attention" for kind in kinds])],
        sizes,
        embedding="model.embeddings",
        final_norm=Norm("model.norm_f", "h", "rms_wide"),
        rotary_sets=0,
        logits_float=True,
    )


def _kinds(fields: Fields) -> list[str]:
    listed, pattern = fields.values.get("layers_block_type"), fields.values.get("hybrid_override_pattern")
    if listed is None and isinstance(pattern, str):
        listed = [_LETTERS.get(letter, letter) for letter in pattern]
    if listed is None:
        return ["linear_attention", "moe", "full_attention", "mlp"]
    if not isinstance(listed, list | tuple) or not 0 < len(listed) <= 1024:
        fields.problem("layers_block_type", "must be a list of one entry per layer")
        return ["full_attention"]
    kinds = [modern(str(kind)) for kind in listed]
    unknown = sorted(set(kinds) - set(_LETTERS.values()))
    if unknown:
        fields.problem("layers_block_type", f"may name mamba, attention, mlp and moe layers, not {unknown[0][:60]}")
        return ["full_attention"]
    return kinds


def _block(mixer: Attention | Mamba2 | PlainMlp | Experts, *, early: bool) -> Block:
    return Block(
        prefix=LAYER,
        wiring="single",
        norms=(Norm("norm", "h", "rms_wide"),),
        attention=mixer if isinstance(mixer, Attention | Mamba2) else None,
        mlp=mixer if isinstance(mixer, PlainMlp | Experts) else None,
        early=early,
    )


def _attention() -> Attention:
    return Attention(
        q=Linear("mixer.q_proj", "q", "h"),
        k=Linear("mixer.k_proj", "k", "h"),
        v=Linear("mixer.v_proj", "k", "h"),
        o=Linear("mixer.o_proj", "h", "q"),
        rotary="none",
    )


def _mlp(fields: Fields, prefix: str, inner: str) -> PlainMlp:
    bias = fields.flag("mlp_bias")
    return PlainMlp(
        up=Linear(f"{prefix}up_proj", inner, "h", bias),
        down=Linear(f"{prefix}down_proj", "h", inner, bias),
        act=fields.text("mlp_hidden_act", default="relu2"),
    )


def _experts(fields: Fields) -> Experts:
    """Routed as DeepSeek V3 routes, without gates."""
    return Experts(
        router=Linear("mixer.gate", "E", "h", role="router", quantizable=False),
        up=Linear("mixer.experts.up_proj", "J", "h", role="expert"),
        down=Linear("mixer.experts.down_proj", "h", "J", role="expert"),
        gated=False,
        act=fields.text("mlp_hidden_act", default="relu2"),
        shared=_mlp(fields, "mixer.shared_experts.", "S"),
        routing="sigmoid",
        float_router=True,
        float_scores=False,
        normed=fields.flag("norm_topk_prob", True),
        scaled=True,
    )


def _mixer_sizes(fields: Fields) -> dict[str, int]:
    sizes = mamba2_sizes(
        fields,
        heads=fields.count("mamba_num_heads", default=128),
        width=fields.count("mamba_head_dim", default=64),
        groups=fields.count("mamba_n_groups", "n_groups", default=8),
        state=fields.count("ssm_state_size", default=128),
    )
    return sizes | {
        "conv kernel": fields.count("mamba_d_conv", "conv_kernel", default=4),
        "chunk": fields.count("mamba_chunk_size", "chunk_size", default=128),
    }
