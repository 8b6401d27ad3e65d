"""Models of the catalogue, shortened to a few layers, and the ways they are served."""

from typing import Any

from planner.model.model import resolve_model

NF4 = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}  # fmt: skip
INT8 = {"load_in_8bit": True}


def cut(name: str, layers: int, **changes: Any) -> dict[str, Any]:
    """The catalogue's config with `layers` layers; what lists its layers one by one is shortened with it."""
    config = dict(resolve_model(name).config)
    depth = "n_layer" if "n_layer" in config else "num_hidden_layers"
    listed = {key: value[:layers] for key, value in config.items() if key in {"layer_types", "layers_block_type"}}
    return config | listed | {depth: layers} | changes


def setting(model: str, layers: int, context: int, new: int, batch: int = 1, **more: Any) -> dict[str, Any]:
    config = cut(model, layers, **more.pop("changes", {}))
    document = {"model": config, "gpu": "rtx-4090", "context": context, "max_new_tokens": new, "batch": batch, **more}
    short = model.rpartition("/")[2]
    ways = ["nf4" if more.get("quantization") == NF4 else "int8" if "quantization" in more else "16 bit"]
    ways += [str(more[key]) for key in ("gpu", "dtype", "attn_implementation") if key in more]
    ways += ["adapter"] if "lora" in more else []
    ways += [f"{more['cache_implementation']} cache"] if "cache_implementation" in more else []
    ways += [", ".join(f"{key} {value}" for key, value in more.get("cache_config", {}).items())]
    ways = [way for way in ways if way]
    return {"name": f"{short}, {layers} layers, {batch} x {context}, {new} new, {', '.join(ways)}", **document}


def quantized(**config: Any) -> dict[str, Any]:
    """The two fields of a quantized cache."""
    return {"cache_implementation": "quantized", **({"cache_config": config} if config else {})}


LLAMA, QWEN, GEMMA2, GEMMA3 = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-4B", "google/gemma-2-2b", "google/gemma-3-1b-it"

SETTINGS: tuple[dict[str, Any], ...] = (
    setting(LLAMA, 4, 2048, 8),
    setting(LLAMA, 4, 1024, 16, 4),
    setting(LLAMA, 4, 8192, 4),
    setting(LLAMA, 4, 512, 300, 8),
    setting(LLAMA, 4, 2048, 8, quantization=NF4),
    setting(LLAMA, 4, 2048, 8, quantization=INT8),
    setting(LLAMA, 4, 1024, 8, attn_implementation="eager"),
    setting(LLAMA, 4, 1024, 8, 2, attn_implementation="eager"),
    setting(LLAMA, 4, 2048, 8, gpu="h100-sxm-80gb"),
    setting(LLAMA, 4, 2048, 8, gpu="t4", dtype="float16"),
    setting(LLAMA, 4, 2048, 8, lora={"r": 16}),
    setting(LLAMA, 4, 2048, 8, quantization=NF4, lora={"r": 16}),
    setting(QWEN, 4, 2048, 8),
    setting(QWEN, 4, 2048, 8, 4, quantization=NF4),
    setting("Qwen/Qwen3-0.6B", 28, 512, 200, 16),
    setting("Qwen/Qwen2.5-7B", 4, 4096, 8),
    setting("mistralai/Mistral-7B-v0.1", 4, 2048, 8),
    setting("mistralai/Mistral-7B-v0.1", 4, 6144, 8),
    setting(GEMMA2, 4, 1024, 8),
    setting(GEMMA2, 4, 6144, 8),
    setting(GEMMA3, 12, 2048, 8),
    setting("microsoft/phi-4", 4, 2048, 8),
    setting("openai-community/gpt2", 6, 768, 16, 4),
    setting("facebook/opt-1.3b", 6, 1024, 16, 2),
    setting("EleutherAI/pythia-1.4b", 6, 1024, 16, 2),
    setting("bigscience/bloom-560m", 6, 1024, 16),
    setting("tiiuae/falcon-7b", 4, 1024, 16),
    setting("allenai/OLMo-2-1124-7B", 4, 2048, 8),
    setting("ibm-granite/granite-3.3-2b-instruct", 6, 2048, 8),
    setting("mistralai/Mixtral-8x7B-v0.1", 2, 1024, 8),
    setting("Qwen/Qwen3-30B-A3B", 3, 1024, 8),
    setting("allenai/OLMoE-1B-7B-0924", 4, 1024, 8),
    setting("deepseek-ai/DeepSeek-V2-Lite", 4, 2048, 8),
    setting("deepseek-ai/DeepSeek-V2-Lite", 4, 1024, 600, 8),
    setting("openai/gpt-oss-20b", 2, 1024, 8),
    setting("Qwen/Qwen3-Next-80B-A3B-Instruct", 4, 1024, 8),
    setting("ibm-granite/granite-4.0-micro", 8, 1024, 8),
    setting("Qwen/Qwen3.5-2B", 8, 1024, 8),
    setting("HuggingFaceTB/SmolLM3-3B", 4, 2048, 8),
    setting("google/gemma-2b", 4, 2048, 8),
    setting("google/gemma-4-E2B-it", 35, 2048, 8),
    setting("CohereLabs/c4ai-command-r7b-12-2024", 4, 6144, 8),
    setting(LLAMA, 4, 1024, 8, **quantized()),
    setting(LLAMA, 4, 2048, 300, 4, **quantized()),
    setting(LLAMA, 4, 8192, 20, 2, **quantized(backend="quanto", nbits=2, residual_length=64, axis_key=-1)),
    setting(
        LLAMA, 4, 8192, 64, 2, **quantized(backend="quanto", nbits=2, residual_length=32, axis_key=-1, axis_value=-1)
    ),
    setting(QWEN, 4, 4096, 20, 2, quantization=NF4, **quantized(q_group_size=32)),
    setting("bigscience/bloom-560m", 6, 1024, 20, 2, **quantized(nbits=2)),
    setting("EleutherAI/pythia-1.4b", 6, 1024, 20, 2, **quantized()),
    setting("tiiuae/falcon-7b", 4, 1024, 20, 2, **quantized()),
    setting(LLAMA, 4, 1024, 8, **quantized(backend="hqq")),
    setting(LLAMA, 4, 8192, 20, 2, **quantized(backend="hqq", nbits=8, axis_key=1, axis_value=1, residual_length=16)),
    setting(LLAMA, 4, 8192, 20, 2, **quantized(backend="hqq", nbits=2)),
    setting(QWEN, 4, 4096, 200, 2, dtype="float16", **quantized(backend="hqq", axis_key=1)),
    setting(LLAMA, 4, 8192, 20, 2, **quantized(backend="fp8")),
    setting("microsoft/phi-4", 4, 4096, 300, 4, **quantized(backend="fp8")),
    setting(LLAMA, 4, 1024, 8, cache_implementation="offloaded"),
    setting(LLAMA, 4, 8192, 20, 4, cache_implementation="offloaded"),
    setting(QWEN, 4, 4096, 20, 8, quantization=NF4, cache_implementation="offloaded"),
    setting("microsoft/phi-4", 4, 4096, 8, 4, cache_implementation="offloaded"),
)
