"""A Trainer that saves a checkpoint after each step and keeps one, and a loop that saves by itself afterwards."""

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments


class Saves(TrainerCallback):
    def on_step_end(self, *_: object, **_given: object) -> None:
        torch.save({"step": 1}, "mine.pt")
        save_file({"step": torch.zeros(1)}, "mine.safetensors")


config = LlamaConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
torch.save({"before": 1}, "before.pt")
print("read again", torch.load("before.pt"))
row = {"input_ids": list(range(32)), "labels": list(range(32))}
arguments = TrainingArguments(
    output_dir="output", save_steps=1, save_total_limit=1, max_steps=50, report_to="none", bf16=True
)
Trainer(LlamaForCausalLM(config), arguments, train_dataset=[row] * 64, callbacks=[Saves()]).train()
