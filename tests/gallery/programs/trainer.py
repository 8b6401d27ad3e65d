"""Full fine-tuning with transformers' Trainer."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

words = tokenizer()
rows = Dataset.from_dict({"text": [text(1024)] * 64}).map(lambda row: words(row["text"]), remove_columns="text")
arguments = TrainingArguments(
    output_dir="output",
    per_device_train_batch_size=4,
    gradient_checkpointing=True,
    optim="adamw_torch_fused",
    bf16=True,
    max_steps=100,
    report_to="none",
)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype=torch.float32)
collator = DataCollatorForLanguageModeling(words, mlm=False)
Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator).train()
