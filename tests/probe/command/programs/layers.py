"""A plain training loop of torch alone, which starts in half the time. Argument: rows a step; it would run for ever."""

import sys

import torch

rows, width = int(sys.argv[1]), 256
layers = [torch.nn.Sequential(torch.nn.Linear(width, 2 * width), torch.nn.GELU(), torch.nn.Linear(2 * width, width))]
layers += [torch.nn.Linear(width, 1024)]
model = torch.nn.Sequential(torch.nn.Embedding(1024, width), *layers).to("cuda", dtype=torch.bfloat16)
model.gradient_checkpointing = False  # as models of transformers say it
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
while True:
    ids = torch.randint(0, 1024, (rows,), device="cuda")
    torch.nn.functional.cross_entropy(model(ids).float(), ids).backward()
    optimizer.step()
    optimizer.zero_grad()
