"""LoRA of Mistral 7B over two cards with FSDP, as IBM's fms-acceleration measured it; for accelerate launch.

Argument: sequences a card, of 4,096 tokens each. PyTorch's attention stands for FlashAttention, transformers' Trainer
for TRL's, which adds nothing to its step (github.com/foundation-model-stack/fms-acceleration, scripts/benchmarks:
scenarios.yaml, standard-peft, and defaults.yaml).
"""

import sys

import torch
from peft import LoraConfig, get_peft_model
from peft.utils.other import fsdp_auto_wrap_policy
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

LENGTH = 4096
model = AutoModelForCausalLM.from_pretrained(
    "mistralai/Mistral-7B-v0.1", torch_dtype=torch.bfloat16, attn_implementation="sdpa", use_cache=False
)
targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
model = get_peft_model(
    model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=16, lora_dropout=0.1, target_modules=targets)
)
model.enable_input_require_grads()
row = {"input_ids": [5] * LENGTH, "labels": [5] * LENGTH, "attention_mask": [1] * LENGTH}
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        per_device_train_batch_size=int(sys.argv[1]),
        gradient_checkpointing=True,
        learning_rate=2e-4,
        weight_decay=0.01,
        warmup_steps=10,
        adam_epsilon=1e-4,
        include_tokens_per_second=True,
        max_steps=100,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=[row] * 256,
    data_collator=lambda rows: {key: torch.tensor([row[key] for row in rows]) for key in rows[0]},
)
trainer.accelerator.state.fsdp_plugin.auto_wrap_policy = fsdp_auto_wrap_policy(trainer.model)
trainer.train()
