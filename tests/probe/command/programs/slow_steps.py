"""Holds one GiB and takes its time before it trains."""

import time

import torch

held = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
time.sleep(2)
layer = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(layer.parameters())
while True:
    layer(torch.ones(8, 8, device="cuda")).sum().backward()
    optimizer.step()
