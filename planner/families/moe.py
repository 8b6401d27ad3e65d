"""Mixtures of experts with softmax attention. Their experts are stacked 3-D parameters, which nothing quantizes.

Sources: transformers 5.23, models/{mixtral,qwen2_moe,qwen3_moe,olmoe,phimoe,granitemoe,gpt_oss,glm4_moe,minimax_m2,
llama4}/modeling_*.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.families.config import Fields
from planner.families.kinds import every, mixed_layers, sliding_layers
from planner.families.llama import LAYER, attention, gated_mlp, head_norm, same_layers, sizes_of, tied, two_norms
from planner.families.parts import Attention, Block, Decoder, Experts, GatedMlp, Linear, Norm
from planner.families.variants import rotary_sizes


def experts(prefix: str = "mlp.", router: str = "gate", *, transposed: bool = False, **more: Any) -> Experts:
    """Router and stacked projections: E experts of inner width J, gate and up in one stack."""
    bias = bool(more.get("bias", False))
    return Experts(
        router=Linear(f"{prefix}{router}", "E", "h", bias, role="router", quantizable=False),
        up=Linear(f"{prefix}experts.gate_up_proj", "2J", "h", bias, role="expert", transposed=transposed),
        down=Linear(f"{prefix}experts.down_proj", "h", "J", bias, role="expert", transposed=transposed),
        **more,
    )


def expert_sizes(
    fields: Fields, count: tuple[str, ...], top: tuple[str, ...], inner: tuple[str, ...]
) -> dict[str, int]:
    """E, top, J and 2J."""
    width = fields.count(*inner)
    return {"E": fields.count(*count), "top": fields.count(*top), "J": width, "2J": 2 * width}


def shared(prefix: str) -> GatedMlp:
    """A shared expert of inner width S."""
    return gated_mlp(prefix, "S")


def mixtral(fields: Fields) -> Decoder:
    """Mixtral, OLMoE, Phi-3.5-MoE, GraniteMoE, MiniMax-M2: every layer routes."""
    kind = fields.model_type
    norm: Any = "layer" if kind == "phimoe" else "rms"
    with_bias = kind == "phimoe"
    bias = fields.flag("attention_bias") if kind in {"phimoe", "granitemoe", "olmoe"} else False
    wide = kind in {"olmoe", "minimax_m2"}
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(norm, bias=with_bias),
        attention=attention(
            bias=bias,
            out_bias=bias,
            q_norm=Norm("self_attn.q_norm", "q") if wide else None,
            k_norm=Norm("self_attn.k_norm", "k") if wide else None,
            window=kind == "mixtral" and fields.number("sliding_window") is not None,
            rotary="partial" if kind == "minimax_m2" else "full",
        ),
        mlp=experts(
            "block_sparse_moe." if kind == "granitemoe" else "mlp.",
            "router" if kind in {"granitemoe", "phimoe"} else "gate",
            **_routing(fields),
        ),
        scaled_residual=kind == "granitemoe",
    )
    sizes = sizes_of(fields) | expert_sizes(
        fields, ("num_local_experts", "num_experts"), ("num_experts_per_tok",), ("intermediate_size",)
    )
    more: dict[str, Any] = {"final_norm": Norm("model.norm", "h", norm, bias=with_bias)}
    if kind == "phimoe":
        # Its router draws at random and differentiates by hand (sparsemixer); the trace takes a softmax in its place.
        lm_bias = fields.flag("lm_head_bias")
        more["head"] = Linear("lm_head", "V", "h", bias=lm_bias, role="head", quantizable=False)
    if kind == "granitemoe":
        more |= {"embedding_scaled": "outside", "logits_scaled": True, "stacked_in_checkpoint": True}
    if kind == "minimax_m2":
        rotary = fields.count("rotary_dim", default=sizes["d"])
        sizes |= {"rot": rotary, "q rot": rotary * sizes["H"], "k rot": rotary * sizes["K"]}
    if block.attention and block.attention.window:
        sizes["window"] = fields.count("sliding_window")
    return same_layers(fields, block, sizes, **more)


def _routing(fields: Fields) -> dict[str, Any]:
    """How the routers of these models weigh their experts."""
    kind = fields.model_type
    if kind == "olmoe":
        return {"normed": fields.flag("norm_topk_prob"), "narrow": True}
    routings = {"granitemoe": "top_softmax", "phimoe": "sparsemixer", "minimax_m2": "sigmoid"}
    return {"routing": routings.get(kind, "softmax"), "normed": kind in {"mixtral", "minimax_m2"}}


def qwen_moe(fields: Fields) -> Decoder:
    """Qwen 1.5 MoE (with a shared expert behind a gate) and Qwen 3 MoE; some layers may be dense."""
    second = fields.model_type == "qwen2_moe"
    bias = fields.flag("qkv_bias", True) if second else fields.flag("attention_bias")
    routed = experts(
        shared=shared("mlp.shared_expert.") if second else None,
        shared_gate=Linear("mlp.shared_expert_gate", "one", "h") if second else None,
        normed=fields.flag("norm_topk_prob"),
        narrow=True,
    )
    sparse = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(
            bias=bias,
            out_bias=False if second else bias,
            q_norm=None if second else head_norm("self_attn.q_norm", "H"),
            k_norm=None if second else head_norm("self_attn.k_norm", "K"),
        ),
        mlp=routed,
    )
    dense = replace(sparse, mlp=gated_mlp())
    only = fields.places("mlp_only_layers") or ()
    step, layers = fields.count("decoder_sparse_step", default=1), fields.count("num_hidden_layers")
    sizes = sizes_of(fields) | expert_sizes(
        fields, ("num_experts",), ("num_experts_per_tok",), ("moe_intermediate_size",)
    )
    if second:
        sizes |= {"S": fields.count("shared_expert_intermediate_size"), "one": 1}
    listed: list[tuple[Block, Mapping[str, int]]] = [
        (dense if index in only or (index + 1) % step else sparse, {}) for index in range(layers)
    ]
    # Its config class sets the window to 0 where none is used, and its forward makes the mask all the same.
    return mixed_layers(fields, listed, sizes, idle_mask=second and not fields.flag("use_sliding_window"))


def glm4_moe(fields: Fields) -> Decoder:
    """GLM-4.5: the first layers dense, then routed and shared experts."""
    bias, qk = fields.flag("attention_bias"), fields.flag("use_qk_norm")
    dense = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(
            bias=bias,
            q_norm=head_norm("self_attn.q_norm", "H") if qk else None,
            k_norm=head_norm("self_attn.k_norm", "K") if qk else None,
            rotary="partial",
        ),
        mlp=gated_mlp(),
    )
    return first_dense(fields, dense, rotary_sizes(fields, sizes_of(fields), 0.5))


def first_dense(fields: Fields, dense: Block, sizes: dict[str, int]) -> Decoder:
    """`first_k_dense_replace` dense layers, then experts with a shared one of n_shared_experts · J."""
    first_version = fields.model_type == "deepseek_v2"
    sparse = replace(
        dense,
        mlp=experts(
            shared=shared("mlp.shared_experts."),
            routing="softmax" if first_version else "sigmoid",
            float_router=True,
            float_scores=first_version,
            normed=not first_version and fields.flag("norm_topk_prob", True),
            scaled=True,
        ),
    )
    first, layers = fields.count("first_k_dense_replace", default=0, least=0), fields.count("num_hidden_layers")
    own = expert_sizes(
        fields, ("n_routed_experts", "num_local_experts"), ("num_experts_per_tok",), ("moe_intermediate_size",)
    )
    own["S"] = own["J"] * fields.count("n_shared_experts", default=1)
    listed: list[tuple[Block, Mapping[str, int]]] = [
        (dense if index < first else sparse, {}) for index in range(layers)
    ]
    return mixed_layers(fields, listed, sizes | own)


def gpt_oss(fields: Fields) -> Decoder:
    """gpt-oss: attention sinks, biases on routers and experts, sliding and full layers in turn, eager by default."""
    bias = fields.flag("attention_bias", True)
    full = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("rms_cast"),
        attention=attention(bias=bias, out_bias=bias, sinks=True, rotary="halves"),
        mlp=experts(
            router="router", transposed=True, bias=True, act="gpt_oss", routing="top_softmax", float_scores=False
        ),
    )
    sizes = sizes_of(fields) | expert_sizes(
        fields, ("num_local_experts",), ("num_experts_per_tok",), ("intermediate_size",)
    )
    # cos and sin of half a head: the two halves share them.
    sizes |= {"rot": sizes["d"] // 2, "q half": sizes["q"] // 2, "k half": sizes["k"] // 2}
    layers = fields.count("num_hidden_layers")
    sliding = replace(full, attention=attention(bias=bias, out_bias=bias, sinks=True, rotary="halves", window=True))
    window = {"window": fields.count("sliding_window", default=128)}
    listed: list[tuple[Block, Mapping[str, int]]] = [
        (sliding, window) if slides else (full, {}) for slides in sliding_layers(fields, every(2, layers))
    ]
    return mixed_layers(
        fields, listed, sizes, final_norm=Norm("model.norm", "h", "rms_cast"), default_attention="eager",
        kept_from_float16=("norm",), stacked_in_checkpoint=True,
    )  # fmt: skip


def llama4(fields: Fields) -> Decoder:
    """Llama 4 (text): complex rotation but in every fourth layer, every n-th layer has experts beside a shared one."""
    dense = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=_chunked(fields),
        mlp=gated_mlp("feed_forward."),
        lingers="output",
    )
    beside = gated_mlp("feed_forward.shared_expert.", "J")
    routed = experts("feed_forward.", "router", transposed=True, shared=beside, routing="dense")
    step, layers = fields.count("interleave_moe_layer_step", default=1), fields.count("num_hidden_layers")
    listed_moe = fields.places("moe_layers")
    moe = range(step - 1, layers, step) if listed_moe is None else listed_moe
    sizes = sizes_of(fields) | expert_sizes(
        fields, ("num_local_experts",), ("num_experts_per_tok",), ("intermediate_size",)
    )
    sizes["I"] = fields.count("intermediate_size_mlp")
    # A chunk of attention needs a mask once the sequence is longer than the chunk.
    chunk = {"window": fields.count("attention_chunk_size", default=8192) + 1}
    period = fields.count("no_rope_layer_interval", default=4)
    turned = fields.list_of("no_rope_layers", layers) if fields.values.get("no_rope_layers") else every(period, layers)
    listed: list[tuple[Block, Mapping[str, int]]] = []
    for index, positions in enumerate(turned or ()):
        block = dense if positions else replace(dense, attention=_without_positions(fields))
        listed.append((replace(block, mlp=routed) if index in moe else block, chunk if positions else {}))
    return mixed_layers(fields, listed, sizes, tied=tied(fields), stacked_in_checkpoint=True)


def _chunked(fields: Fields) -> Attention:
    bias = fields.flag("attention_bias")
    return attention(
        bias=bias, out_bias=bias, rotary="complex", window=True, late_norm=fields.flag("use_qk_norm", True)
    )


def _without_positions(fields: Fields) -> Attention:
    bias = fields.flag("attention_bias")
    tempered = bool(fields.values.get("attn_temperature_tuning", True))
    return attention(bias=bias, out_bias=bias, rotary="none", tempered=tempered)
