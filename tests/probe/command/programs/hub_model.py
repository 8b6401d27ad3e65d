"""Loads a hub model by its id, as any script does, and trains it."""

import sys

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).to("cuda")
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
while True:
    ids = torch.randint(0, 100, (1, 64), device="cuda")
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
