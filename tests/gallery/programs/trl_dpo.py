"""LoRA with TRL's DPOTrainer; the reference is the model without its adapter."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

row = {"prompt": text(200), "chosen": text(300), "rejected": text(250)}
trainer = DPOTrainer(
    model="meta-llama/Llama-3.2-1B",
    args=DPOConfig(
        output_dir="output",
        model_init_kwargs={"dtype": torch.bfloat16},
        per_device_train_batch_size=2,
        max_length=512,
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
    train_dataset=Dataset.from_list([row] * 64),
    processing_class=tokenizer(),
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
