"""Llama and the decoders that differ from it only in sizes, biases and small norms.

Sources: transformers 5.23, models/{llama,mistral,ministral3,qwen2,qwen3,smollm3,seed_oss,ernie4_5}/modeling_*.py and
models/{internlm3 (as llama)}.
"""

from collections.abc import Mapping
from typing import Any

from planner.families.config import Fields
from planner.families.parts import Attention, Block, Decoder, GatedMlp, Linear, Norm, Structure

LAYER = "model.layers.*."


def attention(
    *, bias: bool = False, out_bias: bool = False, q_norm: Norm | None = None, k_norm: Norm | None = None, **more: Any
) -> Attention:
    """`self_attn` with separate q, k, v and o projections."""
    return Attention(
        q=Linear("self_attn.q_proj", "q", "h", bias),
        k=Linear("self_attn.k_proj", "k", "h", bias),
        v=Linear("self_attn.v_proj", "k", "h", bias),
        o=Linear("self_attn.o_proj", "h", "q", out_bias),
        q_norm=q_norm,
        k_norm=k_norm,
        **more,
    )


def gated_mlp(prefix: str = "mlp.", inner: str = "I", *, bias: bool = False, act: str = "silu") -> GatedMlp:
    """`mlp` with gate, up and down projections."""
    return GatedMlp(
        gate=Linear(f"{prefix}gate_proj", inner, "h", bias),
        up=Linear(f"{prefix}up_proj", inner, "h", bias),
        down=Linear(f"{prefix}down_proj", "h", inner, bias),
        act=act,
    )


def two_norms(kind: Any = "rms", *, bias: bool = False, weight: bool = True) -> tuple[Norm, Norm]:
    """The usual pair: before attention and before the MLP."""
    return (
        Norm("input_layernorm", "h", kind, weight, bias),
        Norm("post_attention_layernorm", "h", kind, weight, bias),
    )


def head_norm(name: str, heads: str, kind: Any = "rms") -> Norm:
    """A norm over head_dim, the same for every head."""
    return Norm(name, "d", kind, per=(heads,))


def sizes_of(fields: Fields) -> dict[str, int]:
    """The numbers every such decoder has: V, h, I, H, K, d, q, k."""
    hidden = fields.count("hidden_size")
    heads = fields.count("num_attention_heads")
    groups = fields.count("num_key_value_heads", default=heads)
    head_dim = fields.count("head_dim", default=max(1, hidden // heads))
    if heads % groups:
        fields.problem("num_key_value_heads", f"must divide num_attention_heads ({heads}), {groups} does not")
    return {
        "V": fields.count("vocab_size"), "h": hidden, "I": fields.count("intermediate_size", default=4 * hidden),
        "H": heads, "K": groups, "d": head_dim, "q": heads * head_dim, "k": groups * head_dim,
    }  # fmt: skip


def tied(fields: Fields, default: bool = False) -> bool:
    """Whether the head shares the embedding's tensor."""
    return fields.flag("tie_word_embeddings", default)


def structure(block: Block | tuple[Block, ...], fields: Fields, **more: Any) -> Structure:
    """Embedding, blocks, final norm and head under Llama's names."""
    more.setdefault("final_norm", Norm("model.norm", "h"))
    more.setdefault("tied", tied(fields))
    more.setdefault("embedding", "model.embed_tokens")
    more.setdefault("head", Linear("lm_head", "V", "h", role="head", quantizable=False))
    return Structure(blocks=block if isinstance(block, tuple) else (block,), **more)


def same_layers(fields: Fields, block: Block, sizes: Mapping[str, int], **more: Any) -> Decoder:
    """A decoder whose layers are all of one kind."""
    layers = fields.count(more.pop("layers_key", "num_hidden_layers"))
    structural = {key: more.pop(key) for key in tuple(more) if key in Structure.__dataclass_fields__}
    return Decoder(
        model_type=fields.model_type,
        structure=structure(block, fields, **structural),
        sizes=sizes,
        kind_sizes=({},),
        order=(0,) * layers,
        **more,
    )


def llama(fields: Fields) -> Decoder:
    """Llama, Mistral, Ministral 3, InternLM 3, SmolLM 3, Ernie 4.5, Qwen 2, Seed OSS: biases tell them apart."""
    bias, out_bias, mlp_bias = _biases(fields)
    qk = fields.model_type in {"qwen3", "hunyuan_v1_dense"}
    names = {"qwen3": ("q_norm", "k_norm"), "hunyuan_v1_dense": ("query_layernorm", "key_layernorm")}
    q_name, k_name = names.get(fields.model_type, ("", ""))
    block = Block(
        prefix=LAYER,
        wiring="pre",
        norms=two_norms(),
        attention=attention(
            bias=bias,
            out_bias=out_bias,
            q_norm=head_norm(f"self_attn.{q_name}", "H") if qk else None,
            k_norm=head_norm(f"self_attn.{k_name}", "K") if qk else None,
            window=_slides(fields),
            rotary="float_halves" if fields.model_type == "ernie4_5" else "full",
            dropout=drops(fields, "attention_dropout"),
            late_norm=fields.model_type == "hunyuan_v1_dense",
        ),
        mlp=gated_mlp(bias=mlp_bias, act=fields.text("hidden_act", default="silu")),
        dropout=fields.model_type == "seed_oss" and drops(fields, "residual_dropout"),
    )
    floats = fields.model_type == "ernie4_5"
    return same_layers(fields, block, sizes_of(fields) | _window(fields), rotary_float=floats)


def drops(fields: Fields, name: str) -> bool:
    """Whether a dropout probability is above zero."""
    return (fields.number(name) or 0.0) > 0.0


def _biases(fields: Fields) -> tuple[bool, bool, bool]:
    """Bias on q/k/v, on o, on the MLP, where the modelling code reads them."""
    if fields.model_type == "qwen2":
        return True, False, False
    if fields.model_type in {"mistral", "ministral3"}:
        return False, False, False
    if fields.model_type == "ernie4_5":
        return (fields.flag("use_bias"),) * 3
    if fields.model_type == "internlm3":
        return fields.flag("qkv_bias"), fields.flag("bias"), fields.flag("bias")
    bias = fields.flag("attention_bias")
    out_bias = fields.flag("attention_out_bias") if fields.model_type == "seed_oss" else bias
    return bias, out_bias, fields.flag("mlp_bias")


def _slides(fields: Fields) -> bool:
    """Whether every layer attends to a sliding window."""
    windowed = fields.number("sliding_window") is not None
    if fields.model_type in {"qwen2", "qwen3"}:
        return False
    return windowed and fields.model_type in {"mistral", "ministral3"}


def _window(fields: Fields) -> dict[str, int]:
    return {"window": fields.count("sliding_window")} if _slides(fields) else {}
