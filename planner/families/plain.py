"""Decoders with a plain (ungated) MLP: GPT-2 and its kin, and a few recent ones.

Sources: transformers 5.23, modeling_*.py of gpt2, gptj, gpt_neox, phi, falcon, bloom, opt, starcoder2, arcee, apertus
and jais2.
"""

from typing import Any

from planner.families.config import Fields
from planner.families.llama import LAYER, attention, drops, head_norm, same_layers, sizes_of, tied, two_norms
from planner.families.parts import Attention, Block, Decoder, Extra, Linear, Norm, PlainMlp
from planner.families.variants import rotary_sizes


def layer_norm(name: str) -> Norm:
    """`nn.LayerNorm` with weight and bias."""
    return Norm(name, "h", "layer", bias=True)


def plain_mlp(up: str, down: str, act: str, *, bias: bool = True, **more: Any) -> PlainMlp:
    """Two projections around an activation."""
    return PlainMlp(Linear(up, "I", "h", bias, **more), Linear(down, "h", "I", bias, **more), act)


def activation(fields: Fields, key: str, default: str) -> str:
    """The MLP's activation; one that is written out operator by operator keeps more than one that is a kernel."""
    name = fields.text(key, default=default)
    if name not in {"gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu", "relu2", "gelu_python"}:
        fields.problem(key, f"{name!r} is not known to the formulas; try the dry run")
    return name


def starcoder2(fields: Fields) -> Decoder:
    """StarCoder 2: LayerNorm, biases everywhere, GELU."""
    bias = fields.flag("use_bias", True)
    windowed = fields.number("sliding_window") is not None
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("layer", bias=True),
        attention=attention(bias=bias, out_bias=bias, window=windowed),
        mlp=plain_mlp("mlp.c_fc", "mlp.c_proj", activation(fields, "hidden_act", "gelu"), bias=bias),
        dropout=drops(fields, "residual_dropout"),
    )
    window = {"window": fields.count("sliding_window")} if windowed else {}
    return same_layers(
        fields, block, {**sizes_of(fields), **window}, final_norm=layer_norm("model.norm"), tied=tied(fields, True)
    )


def arcee(fields: Fields) -> Decoder:
    """Arcee AFM: Llama with a squared ReLU between two projections; Jais 2 has biases and LayerNorm, too."""
    bias, jais = fields.flag("attention_bias"), fields.model_type == "jais2"
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms("layer", bias=True) if jais else two_norms(),
        attention=attention(bias=bias, out_bias=bias),
        mlp=plain_mlp("mlp.up_proj", "mlp.down_proj", "relu2", bias=fields.flag("mlp_bias")),
    )
    final = layer_norm("model.norm") if jais else Norm("model.norm", "h")
    return same_layers(fields, block, sizes_of(fields), final_norm=final)


def apertus(fields: Fields) -> Decoder:
    """Apertus: q and k norms, xIELU with two trained scalars."""
    bias = fields.flag("attention_bias")
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=(Norm("attention_layernorm", "h"), Norm("feedforward_layernorm", "h")),
        attention=attention(
            bias=bias, out_bias=bias,
            q_norm=head_norm("self_attn.q_norm", "H"), k_norm=head_norm("self_attn.k_norm", "K"),
        ),
        mlp=plain_mlp("mlp.up_proj", "mlp.down_proj", "xielu", bias=fields.flag("mlp_bias")),
        extras=(
            Extra("mlp.act_fn.alpha_p", ("one",)), Extra("mlp.act_fn.alpha_n", ("one",)),
            Extra("mlp.act_fn.beta", (), "buffer"), Extra("mlp.act_fn.eps", (), "buffer"),
        ),
    )  # fmt: skip
    return same_layers(fields, block, {**sizes_of(fields), "one": 1})


def phi(fields: Fields) -> Decoder:
    """Phi-1.5 and 2: one LayerNorm, attention and MLP side by side, a head with a bias."""
    if fields.flag("qk_layernorm"):
        fields.problem("qk_layernorm", "is not known to the formulas; try the dry run")
    block = Block(
        prefix=LAYER,
        wiring="parallel",
        residual_last=True,
        norms=(layer_norm("input_layernorm"),),
        attention=Attention(
            q=Linear("self_attn.q_proj", "q", "h", True),
            k=Linear("self_attn.k_proj", "k", "h", True),
            v=Linear("self_attn.v_proj", "k", "h", True),
            o=Linear("self_attn.dense", "h", "q", True),
            rotary="partial",
            names_parts=True,
            dropout=drops(fields, "attention_dropout"),
        ),
        mlp=plain_mlp("mlp.fc1", "mlp.fc2", activation(fields, "hidden_act", "gelu_new")),
        dropout=drops(fields, "resid_pdrop"),
    )
    sizes = rotary_sizes(fields, sizes_of(fields), 0.5)
    head = Linear("lm_head", "V", "h", bias=True, role="head", quantizable=False)
    return same_layers(fields, block, sizes, final_norm=layer_norm("model.final_layernorm"), head=head)


def gpt_neox(fields: Fields) -> Decoder:
    """GPT-NeoX and Pythia: one qkv projection, two norms of the same input, a quarter of each head rotated."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    bias = fields.flag("attention_bias", True)
    block = Block(
        prefix="gpt_neox.layers.*.",
        wiring="parallel" if fields.flag("use_parallel_residual", True) else "pre",
        residual_last=True,
        norms=(layer_norm("input_layernorm"), layer_norm("post_attention_layernorm")),
        attention=Attention(
            q=None, k=None, v=None,
            fused=Linear("attention.query_key_value", "qkv", "h", bias),
            o=Linear("attention.dense", "h", "q", bias),
            rotary="partial",
            cut="chunks",
            dropout=drops(fields, "attention_dropout"),
        ),
        mlp=plain_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", activation(fields, "hidden_act", "gelu")),
    )  # fmt: skip
    sizes = _equal_heads(fields, hidden, heads, fields.count("intermediate_size"))
    factor = fields.number("rotary_pct")
    head = Linear("lm_head", "V", "h", role="head", quantizable=False)
    return same_layers(
        fields, block, rotary_sizes(fields, sizes, 0.25 if factor is None else factor),
        final_norm=layer_norm("gpt_neox.final_layer_norm"), embedding="gpt_neox.embed_in", head=head,
    )  # fmt: skip


def _equal_heads(fields: Fields, hidden: int, heads: int, inner: int) -> dict[str, int]:
    """Sizes of a decoder with as many key as query heads and head_dim h / H."""
    if hidden % heads:
        fields.problem("num_attention_heads", f"must divide hidden_size ({hidden}), {heads} does not")
    return {
        "V": fields.count("vocab_size"), "h": hidden, "I": inner, "H": heads, "K": heads,
        "d": max(1, hidden // heads), "q": hidden, "k": hidden, "qkv": 3 * hidden,
    }  # fmt: skip


def gpt2(fields: Fields) -> Decoder:
    """GPT-2: Conv1D projections, learned positions, dropout by default."""
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    sizes = _equal_heads(fields, hidden, heads, fields.count("n_inner", default=4 * hidden))
    block = Block(
        prefix="transformer.h.*.",
        wiring="pre",
        norms=(layer_norm("ln_1"), layer_norm("ln_2")),
        attention=Attention(
            q=None, k=None, v=None,
            fused=Linear("attn.c_attn", "qkv", "h", True, transposed=True),
            o=Linear("attn.c_proj", "h", "q", True, transposed=True),
            rotary="none",
            dropout=drops(fields, "attn_pdrop"),
        ),
        mlp=plain_mlp("mlp.c_fc", "mlp.c_proj", activation(fields, "activation_function", "gelu_new"), transposed=True),
        dropout=drops(fields, "resid_pdrop"),
        lingers="output",
    )  # fmt: skip
    return same_layers(
        fields, block, {**sizes, "positions": fields.count("n_positions")}, layers_key="n_layer",
        final_norm=layer_norm("transformer.ln_f"), embedding="transformer.wte", positions="transformer.wpe",
        rotary_sets=0,
        tied=tied(fields, True), embedding_dropout=drops(fields, "embd_pdrop"),
    )  # fmt: skip


def gptj(fields: Fields) -> Decoder:
    """GPT-J: one LayerNorm, attention and MLP side by side, rotation of rotary_dim columns, a head with a bias."""
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    sizes = _equal_heads(fields, hidden, heads, fields.count("n_inner", default=4 * hidden))
    rot = fields.count("rotary_dim", default=sizes["d"])
    block = Block(
        prefix="transformer.h.*.",
        wiring="parallel",
        residual_last=True,
        norms=(layer_norm("ln_1"),),
        attention=Attention(
            q=Linear("attn.q_proj", "q", "h"), k=Linear("attn.k_proj", "k", "h"), v=Linear("attn.v_proj", "k", "h"),
            o=Linear("attn.out_proj", "h", "q"), rotary="gathered", names_parts=True,
            dropout=drops(fields, "attn_pdrop"),
        ),
        mlp=plain_mlp("mlp.fc_in", "mlp.fc_out", activation(fields, "activation_function", "gelu_new")),
        dropout=drops(fields, "resid_pdrop"),
        returns_weights=True,
        extras=(Extra("attn.embed_positions", ("positions", "rot"), "buffer", keeps_float32=True),),
    )  # fmt: skip
    positions = fields.count("n_positions", default=2048)
    head = Linear("lm_head", "V", "h", bias=True, role="head", quantizable=False)
    return same_layers(
        fields, block, {**sizes, "rot": rot, "q rot": rot * heads, "k rot": rot * heads, "positions": positions},
        layers_key="n_layer",
        final_norm=layer_norm("transformer.ln_f"), embedding="transformer.wte", head=head, rotary_sets=0,
        default_attention="eager",
    )  # fmt: skip


def bloom(fields: Fields) -> Decoder:
    """BLOOM: a norm after the embedding, ALiBi, its own eager attention."""
    hidden, heads = fields.count("hidden_size", "n_embed"), fields.count("n_head")
    sizes = _equal_heads(fields, hidden, heads, 4 * hidden)
    block = Block(
        prefix="transformer.h.*.",
        wiring="pre",
        norms=(layer_norm("input_layernorm"), layer_norm("post_attention_layernorm")),
        attention=Attention(
            q=None, k=None, v=None,
            fused=Linear("self_attention.query_key_value", "qkv", "h", True),
            o=Linear("self_attention.dense", "h", "q", True),
            rotary="none",
            alibi=True,
        ),
        mlp=plain_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "gelu_bloom"),
        returns_weights=True,
    )  # fmt: skip
    return same_layers(
        fields, block, sizes, layers_key="n_layer", final_norm=layer_norm("transformer.ln_f"),
        embedding="transformer.word_embeddings", embedding_norm=layer_norm("transformer.word_embeddings_layernorm"),
        tied=tied(fields, True), rotary_sets=0, default_attention="eager",
    )  # fmt: skip


def opt(fields: Fields) -> Decoder:
    """OPT: learned positions (two more than the context), ReLU."""
    if fields.count("word_embed_proj_dim", default=0, least=0) not in (0, fields.count("hidden_size")):
        fields.problem("word_embed_proj_dim", "other than hidden_size is not known to the formulas; try the dry run")
    if not fields.flag("do_layer_norm_before", True):
        fields.problem("do_layer_norm_before", "false is not known to the formulas; try the dry run")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    sizes = _equal_heads(fields, hidden, heads, fields.count("ffn_dim"))
    block = Block(
        prefix="model.decoder.layers.*.",
        wiring="pre",
        norms=(layer_norm("self_attn_layer_norm"), layer_norm("final_layer_norm")),
        attention=Attention(
            q=Linear("self_attn.q_proj", "q", "h", True), k=Linear("self_attn.k_proj", "k", "h", True),
            v=Linear("self_attn.v_proj", "k", "h", True), o=Linear("self_attn.out_proj", "h", "q", True),
            rotary="none",
            scales_query=True,
            dropout=drops(fields, "attention_dropout"),
        ),
        mlp=plain_mlp("fc1", "fc2", "relu"),
        mlp_inline=True,
        dropout=drops(fields, "dropout"),
    )  # fmt: skip
    positions = fields.count("max_position_embeddings") + 2
    return same_layers(
        fields, block, {**sizes, "positions": positions}, final_norm=layer_norm("model.decoder.final_layer_norm"),
        embedding="model.decoder.embed_tokens", positions="model.decoder.embed_positions", positions_each=True,
        tied=tied(fields, True),
        rotary_sets=0,
    )  # fmt: skip


def falcon(fields: Fields) -> Decoder:
    """Falcon: parallel attention and MLP. `FalconLinear` is no plain nn.Linear, so bitsandbytes quantizes nothing."""
    if fields.flag("alibi") or not fields.flag("parallel_attn", True):
        fields.problem("alibi", "and sequential attention are not known to the formulas; try the dry run")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    new, bias = fields.flag("new_decoder_architecture"), fields.flag("bias")
    groups = fields.count("num_kv_heads", default=heads) if new else 1 if fields.flag("multi_query", True) else heads
    head_dim = max(1, hidden // heads)
    two = new and fields.count("num_ln_in_parallel_attn", default=2) == 2
    norms = (layer_norm("ln_attn"), layer_norm("ln_mlp")) if two else (layer_norm("input_layernorm"),)
    unquantized: dict[str, Any] = {"quantizable": False}
    block = Block(
        prefix="transformer.h.*.",
        wiring="parallel",
        residual_last=True,
        norms=norms,
        attention=Attention(
            q=None, k=None, v=None,
            fused=Linear("self_attention.query_key_value", "qkv", "h", bias, **unquantized),
            o=Linear("self_attention.dense", "h", "q", bias, **unquantized),
            cut="groups" if new else "one group",
            always_masked=True,
            own_scores=True,
        ),
        mlp=plain_mlp("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "gelu", bias=bias, **unquantized),
        norms_first=True,
        returns_weights=True,
    )  # fmt: skip
    sizes = {
        "V": fields.count("vocab_size"), "h": hidden, "I": fields.count("ffn_hidden_size", default=4 * hidden),
        "H": heads, "K": groups, "d": head_dim, "q": hidden, "k": groups * head_dim,
        "qkv": hidden + 2 * groups * head_dim,
    }  # fmt: skip
    return same_layers(
        fields, block, sizes, final_norm=layer_norm("transformer.ln_f"), embedding="transformer.word_embeddings",
        tied=tied(fields, True),
    )  # fmt: skip
