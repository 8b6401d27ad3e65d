"""Gemma 4 (text): norms of values, keys shared by later layers, per-layer embeddings, experts beside the MLP.

Source: transformers 5.23 models/gemma4/{configuration,modeling}_gemma4.py. Full layers have heads of their own width
(global_head_dim, 512 in every published model), which flash attention refuses; sdpa repeats their keys and values.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from planner.families.config import Fields
from planner.families.kinds import every, mixed_layers, sliding_layers
from planner.families.llama import LAYER, gated_mlp, head_norm, sizes_of, tied, two_norms
from planner.families.moe import expert_sizes, experts
from planner.families.parts import (
    Attention,
    Block,
    Decoder,
    Extra,
    LayerInput,
    LayerInputs,
    Linear,
    Norm,
    Once,
    ParallelExperts,
)

# configuration_gemma4.py, Gemma4TextConfig.__post_init__.
_GLOBAL_HEAD_DIM = 512
Keys = Literal["own", "stored", "reused"]


def gemma4(fields: Fields) -> Decoder:
    """One decoder for all of them: E2B and E4B have layer inputs and shared keys, 26B-A4B experts, 31B neither."""
    layers = fields.count("num_hidden_layers")
    slides = [*sliding_layers(fields, every(6, layers))]
    slides[-1] = False  # the config class makes the last layer a full one
    # Backward, the last layer makes the gradient of all layer inputs, and the first full one frees its tables.
    modes = _modes(fields, slides)
    inputs = fields.count("hidden_size_per_layer_input", default=256, least=0)
    listed: list[tuple[Block, Mapping[str, int]]] = []
    for index, (slide, mode) in enumerate(zip(slides, modes, strict=True)):
        once: Once = ""
        if index == layers - 1 and inputs:
            once = "last"
        elif _alone(index, slides, modes) or (not slide and all(slides[:index])):
            once = "first"
        block = replace(_block(fields, slide, mode), once=once)
        listed.append((block, _own_sizes(fields, slide, mode)))
    sizes = _sizes(fields, layers, inputs)
    return mixed_layers(
        fields,
        listed,
        sizes,
        final_norm=_norm("model.norm"),
        tied=tied(fields, True),
        embedding_scaled="inside",
        rotary_sets=len(set(slides)),
        rotary_wide=False in slides,
        logits_softcap=fields.number("final_logit_softcapping") is not None,
        layer_inputs=_layer_inputs() if inputs else None,
        stacked_in_checkpoint=True,
    )


def _norm(name: str, width: str = "h", **more: Any) -> Norm:
    return Norm(name, width, "rms_float", **more)


def _modes(fields: Fields, slides: list[bool]) -> list[Keys]:
    """Gemma4TextConfig.kv_sharing_modes: the last layers take the keys of the last earlier layer of their type."""
    shared = fields.count("num_kv_shared_layers", default=0, least=0)
    first = len(slides) - shared
    if shared and set(slides[: max(0, first)]) != set(slides):
        fields.problem("num_kv_shared_layers", "leaves no layer of some type to make keys and values")
    if not shared or first <= 0:
        return ["own"] * len(slides)
    modes: list[Keys] = ["own" if index < first else "reused" for index in range(len(slides))]
    for kind in set(slides[:first]):
        modes[max(index for index in range(first) if slides[index] == kind)] = "stored"
    return modes


def _alone(index: int, slides: list[bool], modes: list[Keys]) -> bool:
    """Layers that store keys, and the last to read them: backward, that one's gradient of the keys comes first."""
    if modes[index] == "own":
        return False
    later = zip(slides[index + 1 :], modes[index + 1 :], strict=True)
    return modes[index] == "stored" or (slides[index], "reused") not in later


def _block(fields: Fields, slides: bool, mode: Keys) -> Block:
    one_projection = fields.flag("attention_k_eq_v") and not slides
    bias, own = fields.flag("attention_bias"), mode != "reused"
    routed = fields.flag("enable_moe_block")
    inputs = fields.count("hidden_size_per_layer_input", default=256, least=0)
    return Block(
        prefix=LAYER,
        wiring="sandwich",
        norms=(
            *two_norms("rms_float"), _norm("pre_feedforward_layernorm"), _norm("post_feedforward_layernorm"),
        ),
        attention=Attention(
            q=Linear("self_attn.q_proj", "q", "h", bias),
            k=Linear("self_attn.k_proj", "k", "h", bias) if own else None,
            v=Linear("self_attn.v_proj", "k", "h", bias) if own and not one_projection else None,
            o=Linear("self_attn.o_proj", "h", "q", bias),
            q_norm=head_norm("self_attn.q_norm", "H", "rms_float"),
            k_norm=head_norm("self_attn.k_norm", "K", "rms_float") if own else None,
            v_norm=Norm("self_attn.v_norm", "d", "rms_float", weight=False, per=("K",)) if own else None,
            keys=mode,
            window=slides,
            dropout=(fields.number("attention_dropout") or 0.0) > 0.0,
        ),
        mlp=gated_mlp(act="gelu_tanh"),
        parallel_experts=_parallel_experts() if routed else None,
        layer_input=_layer_input() if inputs else None,
        scaled_output=True,
        extras=(Extra("layer_scalar", ("one",), "buffer"),),
    )  # fmt: skip


def _parallel_experts() -> ParallelExperts:
    """Experts that read the residual stream beside the MLP; their router has a norm and two scales."""
    return ParallelExperts(
        experts=replace(
            experts("", act="gelu_tanh", normed=True),
            router=Linear("router.proj", "E", "h"),
        ),
        router_norm=_norm("router.norm", weight=False),
        scales=(Extra("router.scale", ("h",), "router"), Extra("router.per_expert_scale", ("E",), "router")),
        norms=(
            _norm("post_feedforward_layernorm_1"), _norm("post_feedforward_layernorm_2"),
            _norm("pre_feedforward_layernorm_2"),
        ),
    )  # fmt: skip


def _layer_input() -> LayerInput:
    return LayerInput(
        gate=Linear("per_layer_input_gate", "P", "h"),
        projection=Linear("per_layer_projection", "h", "P"),
        norm=_norm("post_per_layer_input_norm"),
        act="gelu_tanh",
    )


def _layer_inputs() -> LayerInputs:
    return LayerInputs(
        embedding="model.embed_tokens_per_layer",
        projection=Linear("model.per_layer_model_projection", "L·P", "h"),
        norm=_norm("model.per_layer_projection_norm", "P", per=("L",)),
    )


def _sizes(fields: Fields, layers: int, inputs: int) -> dict[str, int]:
    sizes = sizes_of(fields)
    full = sizes | _full_heads(fields)
    sizes |= {"rot": sizes["d"], "rotated wide": full["d"], "one": 1}
    for reach, heads in (("sliding", sizes), ("full", full)):
        sizes |= {f"{name} of {reach}": heads[name] for name in ("K", "d", "k")}
    if inputs:
        words = fields.count("vocab_size_per_layer_input", default=262_144)
        sizes |= {"L": layers, "P": inputs, "L·P": layers * inputs, "V of inputs": words}
    if fields.flag("enable_moe_block"):
        sizes |= expert_sizes(fields, ("num_experts",), ("top_k_experts",), ("moe_intermediate_size",))
    return sizes


def _full_heads(fields: Fields) -> dict[str, int]:
    """Heads of full layers: wider, and where keys are values too, as many as `num_global_key_value_heads`."""
    heads = fields.count("num_attention_heads")
    wide, groups = fields.count("global_head_dim", default=_GLOBAL_HEAD_DIM), fields.count("num_key_value_heads")
    if fields.flag("attention_k_eq_v"):
        groups = fields.count("num_global_key_value_heads", default=groups)
    return {"d": wide, "K": groups, "q": heads * wide, "k": groups * wide}


def _own_sizes(fields: Fields, slides: bool, mode: Keys) -> dict[str, int]:
    """What a layer has of its own: heads of full layers, a wider MLP where keys are reused."""
    own = {"window": fields.count("sliding_window", default=512)} if slides else _full_heads(fields)
    if mode == "reused" and fields.flag("use_double_wide_mlp"):
        own["I"] = 2 * fields.count("intermediate_size")
    return own
