"""Requests that the OpenAPI document shows. A test answers every one of them."""

from typing import Any

PLAN_REQUESTS: dict[str, dict[str, Any]] = {
    "Llama 2 7B on an RTX 4090": {
        "model": "meta-llama/Llama-2-7b-hf",
        "gpu": "rtx-4090",
        "method": "qlora",
        "quantization": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": "bfloat16",
        },
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"},
        "training": {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "max_length": 2048,
            "gradient_checkpointing": True,
            "optim": "paged_adamw_8bit",
            "attn_implementation": "sdpa",
            "loss": "full_logits",
        },
        "stack": "trainer",
    },
    "The shortest request": {"model": "Qwen/Qwen2.5-7B", "gpu": "4090"},
    "The QLoRA chapter's own dictionary": {
        "model": "meta-llama/Llama-2-13b-hf",
        "gpu": "a100-40gb",
        "load_in_4bit": True,
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "torch.bfloat16",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "v_proj"],
    },
    "Any card, by what torch says of it": {
        "model": "mistralai/Mistral-7B-v0.1",
        "gpu": {"total_memory_bytes": 25_757_220_864, "compute_capability": "8.9"},
        "stack": {"model_dtype": "float16", "kbit_preparation": True, "adapter_dtype": "float32"},
    },
}

INFERENCE_REQUESTS: dict[str, dict[str, Any]] = {
    "Qwen3 8B in 4 bit, four users of 8,192 tokens": {
        "model": "Qwen/Qwen3-8B",
        "gpu": "rtx-4090",
        "context": 8192,
        "batch": 4,
        "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
    },
    "A cache quantized to 2 bits by hqq": {
        "model": "Qwen/Qwen3-8B",
        "gpu": "rtx-4090",
        "context": 32768,
        "cache_implementation": "quantized",
        "cache_config": {"backend": "hqq", "nbits": 2},
    },
    "The shortest request": {"model": "Qwen/Qwen3-8B", "gpu": "4090"},
}
