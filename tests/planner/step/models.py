"""Small models of every family the formulas know: two to six layers, widths that real ones have per head."""

from typing import Any

BASE: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 8000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE: dict[str, Any] = {**BASE, "moe_intermediate_size": 512, "num_experts_per_tok": 2}
MLA: dict[str, Any] = {
    **MOE, "num_key_value_heads": 8, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 384, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
    "n_group": 1, "topk_group": 1,
}  # fmt: skip
GPT: dict[str, Any] = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "n_embd": 1024,
    "n_layer": 3,
    "n_head": 8,
    "vocab_size": 8000,
}

MODELS: dict[str, dict[str, Any]] = {
    "mistral": {**BASE, "sliding_window": None},
    "mistral window": {**BASE, "model_type": "mistral", "sliding_window": 256},
    "ministral3": {**BASE, "sliding_window": None, "head_dim": 128},
    "qwen2": BASE,
    "qwen2 tied": {**BASE, "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {**BASE, "head_dim": 128},
    "smollm3": BASE,
    "seed_oss": {**BASE, "head_dim": 128},
    "ernie4_5": {**BASE, "head_dim": 128},
    "hunyuan_v1_dense": {**BASE, "head_dim": 128},
    "arcee": BASE,
    "apertus": BASE,
    "jais2": BASE,
    "gemma": {**BASE, "head_dim": 128},
    "gemma2": {**BASE, "head_dim": 128, "num_hidden_layers": 4},
    "gemma3_text": {**BASE, "head_dim": 128, "num_hidden_layers": 6, "sliding_window": 512},
    "gemma3_text wide": {
        **BASE, "model_type": "gemma3_text", "head_dim": 128, "num_hidden_layers": 6, "sliding_window": 4096,
    },
    "phi3": {**BASE},
    "phi3 window": {**BASE, "model_type": "phi3", "sliding_window": 2047},
    "glm": {**BASE, "head_dim": 128, "attention_bias": True},
    "glm4": {**BASE, "head_dim": 128},
    "granite": BASE,
    "olmo": {**BASE, "tie_word_embeddings": True},
    "olmo2": BASE,
    "olmo3": {**BASE, "num_hidden_layers": 4, "sliding_window": 512},
    "exaone4": {**BASE, "num_hidden_layers": 4, "head_dim": 128, "sliding_window": 512},
    "cwm": {**BASE, "num_hidden_layers": 4, "head_dim": 128, "sliding_window": 512},
    "cohere": {**BASE},
    "cohere2": {**BASE, "num_hidden_layers": 4, "head_dim": 128, "sliding_window": 512},
    "stablelm": BASE,
    "starcoder2": {**BASE, "use_bias": True, "sliding_window": None},
    "gpt_neox": BASE,
    "phi": BASE,
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 64},
    "bloom": {"hidden_size": 1024, "n_layer": 3, "n_head": 8, "vocab_size": 8000},
    "opt": {
        "hidden_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 8, "ffn_dim": 4096, "vocab_size": 8000,
        "word_embed_proj_dim": 1024, "max_position_embeddings": 2048,
    },
    "falcon": {
        "hidden_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 8000, "multi_query": True,
        "new_decoder_architecture": False, "parallel_attn": True, "bias": False, "ffn_hidden_size": 4096,
    },
    "falcon new": {
        "model_type": "falcon", "hidden_size": 1024, "num_hidden_layers": 3, "num_attention_heads": 8,
        "num_kv_heads": 2, "vocab_size": 8000, "new_decoder_architecture": True, "parallel_attn": True, "bias": False,
        "ffn_hidden_size": 4096,
    },
    "mixtral": {**BASE, "intermediate_size": 1024, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**MOE, "num_experts": 8, "shared_expert_intermediate_size": 1024},
    "qwen3_moe": {**MOE, "num_experts": 8, "head_dim": 128},
    "olmoe": {**BASE, "intermediate_size": 512, "num_experts": 8, "num_experts_per_tok": 2},
    "phimoe": {**BASE, "intermediate_size": 512, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {**BASE, "intermediate_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2},
    "minimax_m2": {**BASE, "intermediate_size": 512, "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2},
    "glm4_moe": {
        **MOE, "head_dim": 128, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1,
        "n_group": 1, "topk_group": 1,
    },
    "gpt_oss": {
        **BASE, "num_hidden_layers": 4, "intermediate_size": 512, "head_dim": 64, "num_local_experts": 8,
        "num_experts_per_tok": 2, "sliding_window": 128,
    },
    "llama4_text": {
        **BASE, "num_hidden_layers": 4, "head_dim": 128, "intermediate_size": 1024, "intermediate_size_mlp": 2816,
        "num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
    },
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "glm4_moe_lite": MLA,
}  # fmt: skip


def config(name: str) -> dict[str, Any]:
    """The config, with its model type."""
    return {"model_type": name.split(maxsplit=1)[0], **MODELS[name]}
