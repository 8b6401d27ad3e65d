"""A plain training loop that knows nothing of Fitproof. Argument: tokens a step; it would run a thousand steps."""

import sys

import datasets  # looks whether torch is there before anybody imports it
import torch
from transformers import LlamaConfig, LlamaForCausalLM

tokens = int(sys.argv[1])
assert datasets.config.TORCH_AVAILABLE
config = LlamaConfig(
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    vocab_size=1024,
)
model = LlamaForCausalLM(config).to("cuda", dtype=torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for step in range(1000):
    ids = torch.randint(0, config.vocab_size, (1, tokens), device="cuda")
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print("trained", step)
