"""Some training steps as can-i-finetune-this 0.3.0's bench/runner.py takes them, read after each moment of the first.

Written from reading it at 053ce9e: `from_pretrained` in bfloat16 (quantized onto the card with double quantization,
otherwise on the host and then moved), `prepare_model_for_kbit_training`, checkpointing by the model's default, LoRA,
bitsandbytes' paged 8-bit AdamW. Every step draws a batch with a mask of ones on the host. Peaks are never reset.
"""

from typing import Any

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from .requests import Moments

DTYPE = torch.bfloat16


def loaded(setting: dict[str, Any], checkpoint: str, reached: dict[str, int]) -> Any:
    """The model on the card, with its adapters."""
    placed: dict[str, Any] = {}
    if setting["quantization"] == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=DTYPE,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
        )
        placed = {"quantization_config": quantization, "device_map": {"": 0}}
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=DTYPE, attn_implementation=setting["attention"], **placed
    )
    if placed:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=setting["checkpointing"])
    else:
        model = model.to("cuda")
    if setting["checkpointing"] and not model.is_gradient_checkpointing:
        model.gradient_checkpointing_enable()
    reached["load_resident"] = torch.cuda.memory_allocated()
    reached["load_peak"] = torch.cuda.max_memory_allocated()
    reached["load_reserved"] = torch.cuda.max_memory_reserved()
    adapters = LoraConfig(
        r=setting["rank"],
        lora_alpha=16,
        lora_dropout=0.0,
        bias="none",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, adapters)
    reached["adapted_resident"] = torch.cuda.memory_allocated()
    return model


def stepped(model: Any, setting: dict[str, Any], moments: Moments) -> None:
    """The setting's steps, read as theirs."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = bitsandbytes.optim.PagedAdamW8bit(trainable, lr=2e-4)
    model.train()
    for step in range(setting["steps"]):
        generator = torch.Generator(device="cpu").manual_seed(step)
        shape = (setting["batch"], setting["length"])
        drawn = torch.randint(0, model.config.vocab_size, shape, dtype=torch.long, generator=generator)
        batch = [tensor.to("cuda", non_blocking=True) for tensor in (drawn, torch.ones_like(drawn), drawn.clone())]
        outputs = model(input_ids=batch[0], attention_mask=batch[1], labels=batch[2])
        loss = outputs.loss
        float(loss.detach().to("cpu").item())
        if step == 0:
            moments.read("allocated", "first_forward_resident")
            moments.read("peak", "first_forward_peak")
        loss.backward()
        if step == 0:
            moments.read("allocated", "first_backward_resident")
            moments.read("peak", "first_backward_peak")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step == 0:
            moments.read("allocated", "first_step_resident")
    moments.read("peak", "peak_allocated")
    moments.read("reserved", "peak_reserved")
    moments.read("allocated", "final_resident")
