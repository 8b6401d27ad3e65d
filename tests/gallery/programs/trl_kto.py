"""LoRA with TRL's KTOTrainer, which compares each batch with a mismatched one."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from peft import LoraConfig
from trl import KTOConfig, KTOTrainer

rows = [{"prompt": text(200), "completion": text(250), "label": number % 2 == 0} for number in range(64)]
trainer = KTOTrainer(
    model="meta-llama/Llama-3.2-1B",
    args=KTOConfig(
        output_dir="output",
        model_init_kwargs={"dtype": torch.bfloat16},
        per_device_train_batch_size=4,
        max_length=512,
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer(),
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
