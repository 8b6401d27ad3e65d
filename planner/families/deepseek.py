"""DeepSeek V2, V3, V3.2 and GLM-4.7-Flash: multi-head latent attention, and experts after the first layers.

Sources: transformers 5.23, models/{deepseek_v2,deepseek_v3,deepseek_v32,glm4_moe_lite}/modeling_*.py.
"""

from dataclasses import replace
from typing import Literal

from planner.families.config import Fields
from planner.families.llama import LAYER, gated_mlp, two_norms
from planner.families.moe import first_dense
from planner.families.parts import Block, Decoder, Extra, Indexer, Latent, Linear, Norm


def deepseek(fields: Fields) -> Decoder:
    """Keys and values go through a narrow latent; queries too, where q_lora_rank is given."""
    bias = fields.flag("attention_bias")
    low = fields.number("q_lora_rank") is not None
    dense = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=Latent(
            q_a=Linear("self_attn.q_a_proj", "q low", "h", bias) if low else None,
            q_norm=Norm("self_attn.q_a_layernorm", "q low") if low else None,
            q=Linear("self_attn.q_b_proj", "q", "q low") if low else Linear("self_attn.q_proj", "q", "h"),
            kv_a=Linear("self_attn.kv_a_proj_with_mqa", "kv low + rot", "h", bias),
            kv_norm=Norm("self_attn.kv_a_layernorm", "kv low"),
            kv_b=Linear("self_attn.kv_b_proj", "kv up", "kv low"),
            o=Linear("self_attn.o_proj", "h", "v", bias),
            rotary=_rotary(fields),
            indexer=_chooser() if fields.model_type == "deepseek_v32" else None,
        ),
        mlp=gated_mlp(),
        extras=_indexer() if fields.model_type == "deepseek_v32" else (),
    )
    decoder = first_dense(fields, dense, _sizes(fields, low))
    return replace(decoder, kept_from_float16=("indexer.weights_proj",)) if dense.extras else decoder


def _rotary(fields: Fields) -> Literal["interleaved", "full", "complex"]:
    """V2 multiplies complex numbers; V3 turns interleaved pairs unless its config says otherwise."""
    if fields.model_type == "deepseek_v2":
        return "complex"
    return "interleaved" if fields.flag("rope_interleave", True) else "full"


def _chooser() -> Indexer:
    return Indexer(
        Linear("self_attn.indexer.wq_b", "index q", "q low"), Linear("self_attn.indexer.wk", "index d", "h")
    )


def _indexer() -> tuple[Extra, ...]:
    """V3.2's sparse attention chooses its keys with a small network of its own."""
    return (
        Extra("self_attn.indexer.wq_b.weight", ("index q", "q low"), "linear", linear=True),
        Extra("self_attn.indexer.wk.weight", ("index d", "h"), "linear", linear=True),
        Extra("self_attn.indexer.k_norm.weight", ("index d",), "norm"),
        Extra("self_attn.indexer.k_norm.bias", ("index d",), "norm"),
        Extra("self_attn.indexer.weights_proj.weight", ("index heads", "h"), "linear"),
    )


def _sizes(fields: Fields, low: bool) -> dict[str, int]:
    heads = fields.count("num_attention_heads")
    nope, rot = fields.count("qk_nope_head_dim"), fields.count("qk_rope_head_dim")
    value, latent = fields.count("v_head_dim"), fields.count("kv_lora_rank")
    sizes = {
        "V": fields.count("vocab_size"), "h": fields.count("hidden_size"), "I": fields.count("intermediate_size"),
        "H": heads, "K": heads, "d": nope + rot, "rot": rot, "q": heads * (nope + rot), "k": heads * (nope + rot),
        "q low": fields.count("q_lora_rank") if low else 1, "kv low": latent, "kv low + rot": latent + rot,
        "kv up": heads * (nope + value), "v": heads * value, "q rot": heads * rot, "q nope": heads * nope,
        "k rot": rot, "q half": heads * rot // 2, "k half": rot // 2,
    }  # fmt: skip
    if fields.model_type == "deepseek_v32":
        index_heads, index_dim = fields.count("index_n_heads"), fields.count("index_head_dim")
        sizes |= {"index heads": index_heads, "index d": index_dim, "index q": index_heads * index_dim}
        sizes |= {"index topk": fields.count("index_topk"), "index rot": index_heads * rot}
    return sizes
