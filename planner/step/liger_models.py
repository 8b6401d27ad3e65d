"""Which decoders Liger knows, and what it leaves alone in each: the one table that formulas and advice read.

Source: liger-kernel 0.8.5 transformers/monkey_patch.py, MODEL_TYPE_TO_APPLY_LIGER_FN and the defaults of each
apply_liger_kernel_to_*. Any other model stays as it is (transformers integrations/liger.py).
"""

REPLACED = frozenset({
    "deepseek_v2", "deepseek_v3", "exaone4", "gemma", "gemma2", "gemma3_text", "gemma4", "gemma4_text", "glm4",
    "gpt_oss", "granite", "hunyuan_v1_dense", "hunyuan_v1_moe", "llama", "llama4_text", "ministral", "mistral",
    "mixtral", "nemotron", "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5_text",
    "qwen3_5_moe_text", "smollm3",
})  # fmt: skip
# Whose norms get in_place=False, whose q and k norms stay, whose rotation stays.
NORMS_BESIDE = frozenset(
    {"exaone4", "gemma", "gemma2", "gemma3_text", "gemma4", "gemma4_text", "glm4", "olmo2", "olmo3"}
)
LEAVES_HEAD_NORMS = frozenset({"hunyuan_v1_dense", "olmo2", "olmo3"})
LEAVES_ROTARY = frozenset({"gemma4", "gemma4_text", "glm4"})
# Of Gemma 4's norms, modules that stay: apply_liger_kernel_to_gemma4_text names the others.
LEFT_NORMS = frozenset({
    "per_layer_projection_norm", "post_per_layer_input_norm", "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2",
})  # fmt: skip
# Whose chunks of logits may weigh as much as so many tensors of hidden states; elsewhere one
# (transformers/model/gpt_oss.py, _GPT_OSS_FLCE_CHUNK_MEM_CONST).
STATES_OF_A_CHUNK = {"gpt_oss": 8}
# Who keeps all logits: cross_entropy=True, fused_linear_cross_entropy=False.
KEEPS_LOGITS = frozenset({"granite"})
