"""QLoRA of a 7B with TRL's SFTTrainer, from a hollow checkpoint. Arguments: the checkpoint, a folder for output."""

import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

words = {"<eos>": 0, "<unk>": 1, **{f"word{i}": i + 2 for i in range(50)}}
backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
backend.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
model = AutoModelForCausalLM.from_pretrained(
    sys.argv[1],
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    ),
    dtype=torch.bfloat16,
    device_map={"": 0},
)
text = " ".join(f"word{i % 50}" for i in range(2048))
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=sys.argv[2],
        per_device_train_batch_size=1,
        max_length=2048,
        max_steps=100,
        optim="paged_adamw_8bit",
        bf16=True,
        report_to="none",
    ),
    train_dataset=Dataset.from_dict({"text": [text] * 100}),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
