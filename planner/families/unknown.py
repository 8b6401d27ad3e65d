"""What to say of a config that the formulas do not know: one true sentence; the dry run only where it knows more."""

from collections.abc import Mapping
from typing import Any

# In the catalogue, and not described here. Without its kernels, Mamba 1 is scanned token by token.
NOT_KNOWN = {
    "jamba": "Mamba layers",
}

# What AutoModelForCausalLM of transformers 5.23 builds, and so the dry run (models/auto/modeling_auto.py), without the
# types below, which are no decoders.
DECODERS = frozenset(
    """
    afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba beam biogpt bitnet bloom blt
    codegen cohere cohere2 cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32
    deepseek_v4 diffllama doge dots1 dots3_note dots3_note_text emu3 ernie4_5 ernie4_5_moe exaone4
    exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint fuyu gemma gemma2 gemma3 gemma3_text gemma3n
    gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified gemma4_unified_assistant gemma4_unified_text glm
    glm4 glm4_moe glm4_moe_lite glm_moe_dsa got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese
    gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text
    hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling2_text inkling_text internlm3
    iquestcoder jais2 jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3 llama llama4 llama4_text
    longcat_flash mamba mamba2 mellum mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral
    ministral3 mistral mixtral mllama modernbert-decoder mpt nanochat nemotron nemotron_h olmo olmo2 olmo3
    olmo_hybrid olmoe openai-gpt opt persimmon phi phi3 phi4_multimodal phimoe qwen2 qwen2_moe qwen3 qwen3_5
    qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp qwen4_exp_text recurrent_gemma rwkv
    seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm xlstm youtu zamba zamba2
    zaya
    """.split()  # noqa: SIM905  # two hundred names are read as words
)
_ENCODERS = frozenset(
    """
    albert bert bert-generation big_bird camembert convbert data2vec-text deberta deberta-v2 distilbert electra
    ernie eurobert funnel layoutlm longformer megatron-bert modernbert mpnet nomic_bert rembert roberta
    roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xmod
    """.split()  # noqa: SIM905  # two hundred names are read as words
)
_ENCODER_DECODERS = frozenset(
    """
    bart bigbird_pegasus blenderbot blenderbot-small flan-t5 led longt5 m2m_100 marian mbart mt5 mvp nllb-moe
    pegasus plbart prophetnet switch_transformers t5 t5gemma trocr udop umt5 whisper
    """.split()  # noqa: SIM905  # two hundred names are read as words
)


def sentence(config: Mapping[str, Any], model_type: str, families: Mapping[str, object]) -> str:
    """Why `model_type` is not planned, and the way on where there is one."""
    shown = model_type[:60]
    if model_type in _ENCODERS:
        return f"Model type {shown} is an encoder, and Fitproof plans decoders that are trained to write text"
    if model_type in _ENCODER_DECODERS:
        return f"Model type {shown} is an encoder with a decoder, and Fitproof plans models that are decoders alone"
    why = f" ({NOT_KNOWN[model_type]})" if model_type in NOT_KNOWN else ""
    return f"Model type {shown} is not known to the formulas{why}{_way_on(config, model_type, families)}"


def _way_on(config: Mapping[str, Any], model_type: str, families: Mapping[str, object]) -> str:
    text = config.get("text_config")
    inner = text.get("model_type", f"{model_type}_text") if isinstance(text, Mapping) else None
    tower = f"; its language model ({inner}) is: paste its text_config" if inner in families else ""
    if model_type in DECODERS:
        return f"{tower}; the dry run may know it: fitproof probe --on dry-run"
    if tower:
        return tower
    if isinstance(text, Mapping):
        return ", and neither is its language model as its text_config has it"
    if config.get("auto_map"):
        return _remote_code(config)
    return ", and transformers 5.23 builds no decoder of that name"


def _remote_code(config: Mapping[str, Any]) -> str:
    """The class behind Kimi-K2's model type is DeepSeek's; its config.json says so."""
    why = ": it runs code of its own (auto_map), and Fitproof runs no stranger's code"
    listed = config.get("architectures")
    if isinstance(listed, list) and "DeepseekV3ForCausalLM" in listed:
        return f"{why}; to plan it as the DeepSeek V3 that it is built like, set model_type to deepseek_v3"
    return why
