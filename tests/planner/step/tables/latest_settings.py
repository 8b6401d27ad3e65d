"""The settings that hold the families of 2026 to dry runs: shared keys, layer inputs, linear attention.

    python -m tests.planner.step.tables.latest_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.tables.settings import ATTENTION, print_table, setting

OFF = {"gradient_checkpointing": False}
STACKS = ("trainer", "trl", "kbit", "loop")
_SLIDING, _FULL = "sliding_attention", "full_attention"
_GEMMA4: dict[str, Any] = {
    "model_type": "gemma4_text", "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 128, "global_head_dim": 512, "vocab_size": 8000, "sliding_window": 512,
    "vocab_size_per_layer_input": 8000, "final_logit_softcapping": 30.0, "pad_token_id": 0,
}  # fmt: skip
_PLAIN = {
    **_GEMMA4, "layer_types": [_SLIDING, _SLIDING, _FULL], "num_hidden_layers": 3, "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
}  # fmt: skip

# A quarter of the layers attends; the others keep a state, which they update chunk by chunk.
_DELTA = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 8000, "linear_num_key_heads": 4,
    "linear_num_value_heads": 8, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "pad_token_id": 0,
}  # fmt: skip
_SPARSE = {
    **_DELTA, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}  # fmt: skip
# Mamba 2 layers scan in chunks of 256 tokens; one in four attends.
_GRANITE: dict[str, Any] = {
    "model_type": "granitemoehybrid", "hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2,
    "vocab_size": 8000, "shared_intermediate_size": 2816, "num_local_experts": 0, "num_experts_per_tok": 0,
    "tie_word_embeddings": True, "pad_token_id": 0,
}  # fmt: skip
_GRANITE_H = {
    **_GRANITE, "num_hidden_layers": 4, "layer_types": ["mamba", "mamba", "attention", "mamba"], "mamba_n_heads": 32,
    "mamba_d_state": 128,
}  # fmt: skip
# Every layer is one mixer; adapters on out_proj are refused by peft, and so is all-linear.
NEMOTRON: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2,
    "layers_block_type": ["mamba", "mlp", "mamba", "attention", "moe", "mamba"], "intermediate_size": 2816,
    "mamba_num_heads": 32, "n_groups": 4, "ssm_state_size": 64, "vocab_size": 8000, "pad_token_id": 0,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
    "moe_shared_expert_intermediate_size": 1024,
}  # fmt: skip
NEMOTRON_TARGETS = [*ATTENTION, "in_proj", "up_proj", "down_proj"]

LATEST: dict[str, dict[str, Any]] = {
    "gemma4 E4B": {
        **_GEMMA4, "num_hidden_layers": 7, "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 128,
        "layer_types": [_SLIDING, _FULL, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL], "use_double_wide_mlp": True,
    },
    "gemma4 31B": {**_PLAIN, "num_global_key_value_heads": 1},
    "gemma4 26B-A4B": {
        **_PLAIN, "num_global_key_value_heads": 2, "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2,
        "moe_intermediate_size": 512,
    },
    "qwen3_5": {**_DELTA, "model_type": "qwen3_5_text"},
    "qwen3_next": {**_SPARSE, "model_type": "qwen3_next"},
    "qwen3_5_moe": {**_SPARSE, "model_type": "qwen3_5_moe_text"},
    "granite 4 H": _GRANITE_H,
    "bamba": {
        "model_type": "bamba", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
        "attn_layer_indices": [2], "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 8000,
        "mamba_n_heads": 32, "mamba_d_state": 128, "pad_token_id": 0,
    },
    "lfm2": {
        "model_type": "lfm2", "hidden_size": 1024, "intermediate_size": 4224, "num_hidden_layers": 4,
        "full_attn_idxs": [2], "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 8000,
        "pad_token_id": 0,
    },
    "olmo_hybrid": {**_DELTA, "model_type": "olmo_hybrid", "rope_parameters": {"rope_theta": None}},
}  # fmt: skip
_VISION = {
    "model_type": "gemma4_vision", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64, "position_embedding_size": 1024,
}  # fmt: skip
# One key head for all queries, no layer shares keys, the first layer a full one.
_ODD = {
    "gemma4 E2B": {**LATEST["gemma4 E4B"], "num_key_value_heads": 1},
    "gemma4 layer inputs": {**LATEST["gemma4 E4B"], "num_kv_shared_layers": 0, "use_double_wide_mlp": False},
    "gemma4 full first": {**_PLAIN, "layer_types": [_FULL, _SLIDING, _FULL], "attention_k_eq_v": False},
}  # fmt: skip


# Experts tell them from it; eager attention is recorded once.
ATTENDS_AS_QWEN3_5 = ("qwen3_next", "qwen3_5_moe")


def family(name: str, model: dict[str, Any]) -> list[dict[str, Any]]:
    """Every stack, checkpointed and not; adapters on all linear layers and on attention; the other methods."""
    attention = {"lora": {"target_modules": ATTENTION}}
    found = []
    for stack in STACKS:
        found += [
            setting(f"{name} {stack}", model, stack=stack),
            setting(f"{name} {stack} off", model, OFF, stack=stack),
            setting(f"{name} {stack} attention", model, stack=stack, **attention),
            setting(f"{name} {stack} attention off", model, OFF, stack=stack, **attention),
        ]
    if name not in ATTENDS_AS_QWEN3_5:
        found += [
            setting(f"{name} eager", model, {"attn_implementation": "eager"}),
            setting(f"{name} eager off", model, {**OFF, "attn_implementation": "eager"}),
        ]
    return [
        *found,
        setting(f"{name} lora", model, method="lora"),
        setting(f"{name} full", model, method="full"),
        setting(f"{name} full off", model, OFF, method="full"),
        setting(f"{name} padded", model, {"padded": True, "per_device_train_batch_size": 2}),
        setting(f"{name} batch 3", model, {"per_device_train_batch_size": 3, "max_length": 600}),
        setting(f"{name} accumulation", model, {"gradient_accumulation_steps": 4}),
    ]


def nemotron() -> list[dict[str, Any]]:
    """As `family`, without what peft refuses."""
    name, model = "nemotron_h", NEMOTRON
    most, attention = {"lora": {"target_modules": NEMOTRON_TARGETS}}, {"lora": {"target_modules": ATTENTION}}
    found = []
    for stack in STACKS:
        found += [
            setting(f"{name} {stack}", model, stack=stack, **most),
            setting(f"{name} {stack} off", model, OFF, stack=stack, **most),
            setting(f"{name} {stack} attention off", model, OFF, stack=stack, **attention),
        ]
    two = {"per_device_train_batch_size": 2, "padded": True}
    first = {**model, "layers_block_type": ["attention", "moe", "mamba", "attention"]}
    return [
        *found,
        setting(f"{name} eager off", model, {**OFF, "attn_implementation": "eager"}, **most),
        setting(f"{name} lora", model, method="lora", **most),
        setting(f"{name} full", model, method="full"),
        setting(f"{name} full off", model, OFF, method="full"),
        setting(f"{name} padded", model, two, **attention),
        setting(f"{name} padded off", model, {**OFF, **two, "max_length": 600}, **most),
        setting(f"{name} accumulation", model, {"gradient_accumulation_steps": 4}, **most),
        setting(f"{name} attends first", first, two, **attention),
    ]


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    odd = [
        line
        for name, model in _ODD.items()
        for line in (setting(f"{name} trainer", model), setting(f"{name} trainer off", model, OFF))
    ]
    whole = {"model_type": "gemma4", "text_config": LATEST["gemma4 31B"], "vision_config": _VISION}
    granite = {**_GRANITE, "num_hidden_layers": 3, "layer_types": ["attention"] * 3}
    turning = {**granite, "position_embedding_type": "rope", "num_local_experts": 4, "num_experts_per_tok": 2,
               "intermediate_size": 512}
    on_attention = {"lora": {"target_modules": ATTENTION}}
    for stack in STACKS:
        odd += [
            setting(f"granitemoehybrid {stack}", granite, stack=stack),
            setting(f"granitemoehybrid {stack} attention off", granite, OFF, stack=stack, **on_attention),
        ]
    odd += [
        setting("granitemoehybrid experts", turning, **on_attention),
        setting("granitemoehybrid experts off", turning, OFF, **on_attention),
    ]
    grouped = {**turning, **_GRANITE_H, "num_local_experts": 4, "num_experts_per_tok": 2, "mamba_n_groups": 4,
               "mamba_d_state": 64, "mamba_n_heads": 64, "mamba_chunk_size": 128}
    attends_first = {**_GRANITE_H, "layer_types": ["attention", "mamba", "mamba", "attention"]}
    two = {"per_device_train_batch_size": 2}
    odd += [
        setting("granite 4 H experts", grouped, {**two, "max_length": 1100}),
        setting("granite 4 H experts off", grouped, {**OFF, **two, "max_length": 1100}),
        setting("granite 4 H one chunk off", _GRANITE_H, {**OFF, "max_length": 200}),
        setting("granite 4 H two of one chunk off", _GRANITE_H, {**OFF, **two, "max_length": 200}),
        setting("granite 4 H padded off", _GRANITE_H, {**OFF, **two, "padded": True, "max_length": 1000}),
        setting("granite 4 H attends first", attends_first, {**two, "padded": True}, **on_attention),
    ]
    text_only = {"lora": {"target_modules": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"}}
    odd += [
        setting("gemma4 whole trainer", whole),
        setting("gemma4 whole trainer off", whole, OFF),
        setting("gemma4 whole kbit", whole, stack="kbit"),
        setting("gemma4 whole trl attention", whole, stack="trl", **text_only),
        setting("gemma4 whole full", whole, method="full"),
    ]
    chunks = {**LATEST["qwen3_5"], "linear_num_key_heads": 8}
    odd += [
        setting("qwen3_5 equal heads off", chunks, OFF),
        setting("qwen3_5 odd length off", LATEST["qwen3_5"], {**OFF, "max_length": 1000}),
        setting("qwen3_5 two chunks off", LATEST["qwen3_5"], {**OFF, "max_length": 128}),
        setting("qwen3_5 long", LATEST["qwen3_5"], {"max_length": 4096}),
    ]
    turned = {**LATEST["olmo_hybrid"], "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}
    odd += [
        setting("olmo_hybrid positions off", {**turned, "linear_num_key_heads": 8}, OFF),
        setting("olmo_hybrid up to one off", {**turned, "linear_allow_neg_eigval": False}, {**OFF, "max_length": 1000}),
    ]
    return [*(line for name, model in LATEST.items() for line in family(name, model)), *nemotron(), *odd]


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
