"""One training step as fitcheck-llm 0.3.1's scripts/measure.py takes it, phase by phase.

Written from reading it: `from_pretrained` (quantized onto the card, otherwise on the host and then moved),
`prepare_model_for_kbit_training`, LoRA, non-reentrant checkpointing, float32 adapters, torch's AdamW. One step warms
up, the next is measured, a third is read by phase. Attention `sdpa` is pinned to its memory-efficient kernel, with
keys and values repeated for grouped heads.
"""

import contextlib
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from .requests import Moments

DTYPE = torch.float16


def loaded(setting: dict[str, Any], checkpoint: str, reached: dict[str, int]) -> Any:
    """The model on the card, with its adapters."""
    torch.manual_seed(0)
    model = _model(setting, checkpoint)
    reached["load_resident"] = torch.cuda.memory_allocated()
    return model


def stepped(model: Any, setting: dict[str, Any], moments: Moments) -> None:
    """Three steps, read as theirs: the second as a whole, the third by phase."""
    model.set_attn_implementation(setting["attention"])
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    shape = (setting["batch"], setting["length"])
    batch = torch.randint(0, model.config.vocab_size, shape, device="cuda", dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        out = model(input_ids=batch, labels=batch)
        out.loss.backward()
        optimizer.step()

    with _attention(setting["attention"]):
        step()
        moments.reset_peaks()
        step()
        moments.read("peak", "peak_allocated")
        moments.read("reserved", "peak_reserved")
        optimizer.zero_grad(set_to_none=True)
        moments.reset_peaks()
        out = model(input_ids=batch, labels=batch)
        moments.read("peak", "forward_peak")
        moments.reset_peaks()
        out.loss.backward()
        moments.read("peak", "backward_peak")
        moments.reset_peaks()
        optimizer.step()
        moments.read("peak", "optimizer_peak")


def _model(setting: dict[str, Any], checkpoint: str) -> Any:
    placed: dict[str, Any] = {}
    if setting["quantization"] == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=DTYPE,
            bnb_4bit_use_double_quant=False,
        )
        placed = {"quantization_config": quantization, "device_map": {"": 0}}
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=DTYPE, **placed)
    if placed:
        model.config.use_cache = False
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)
    else:
        model = model.cuda()
        model.config.use_cache = False
    rank = setting["rank"]
    adapters = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = get_peft_model(model, adapters)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model.train()


def _attention(implementation: str) -> contextlib.AbstractContextManager[None]:
    if implementation != "sdpa":
        return contextlib.nullcontext()
    attention = torch.nn.functional.scaled_dot_product_attention

    def repeated(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        groups = query.size(-3) // key.size(-3)
        if groups > 1:
            key, value = (tensor.repeat_interleave(groups, dim=-3) for tensor in (key, value))
            kwargs.pop("enable_gqa", None)
        return attention(query, key, value, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = repeated
    return sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION)
