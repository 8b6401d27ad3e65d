"""Full fine-tuning with transformers' Trainer; who launches it says how it is sharded. Arguments: `--deepspeed FILE`.

For `accelerate launch --config_file fsdp2.yaml`, or torchrun with a ZeRO configuration.
"""

import torch
from datasets import Dataset
from made_up import text, tokenizer
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
)

(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
words = tokenizer()
rows = Dataset.from_dict({"text": [text(1024)] * 256}).map(lambda row: words(row["text"]), remove_columns="text")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B", dtype=torch.bfloat16)
collator = DataCollatorForLanguageModeling(words, mlm=False)
Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator).train()
