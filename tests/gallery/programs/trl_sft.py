"""QLoRA of a 7B with TRL's SFTTrainer."""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

quantization = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
trainer = SFTTrainer(
    model="meta-llama/Llama-2-7b-hf",
    args=SFTConfig(
        output_dir="output",
        model_init_kwargs={"quantization_config": quantization, "dtype": torch.bfloat16, "device_map": {"": 0}},
        per_device_train_batch_size=1,
        max_length=2048,
        optim="paged_adamw_8bit",
        bf16=True,
        max_steps=100,
        report_to="none",
    ),
    train_dataset=Dataset.from_dict({"text": [text(3000)] * 64}),
    processing_class=tokenizer(),
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
