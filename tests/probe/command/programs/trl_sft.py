"""QLoRA with TRL's SFTTrainer, as its documentation writes it. Arguments: MODEL OUTPUT [LENGTH BATCH].

MODEL is a checkpoint's folder; a small one is written where none is.
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from trl import SFTConfig, SFTTrainer

words = {"<eos>": 0, "<unk>": 1, **{f"word{i}": i + 2 for i in range(50)}}
backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
backend.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
if not Path(sys.argv[1]).exists():
    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(words)
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
length, batch = map(int, sys.argv[3:] or ("256", "2"))
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
text = " ".join(f"word{i % 50}" for i in range(max(400, length)))
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=sys.argv[2],
        per_device_train_batch_size=batch,
        max_length=length,
        max_steps=100,
        optim="paged_adamw_8bit",
        bf16=True,
        report_to="none",
        logging_steps=1,
    ),
    train_dataset=Dataset.from_dict({"text": [text] * 400}),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
