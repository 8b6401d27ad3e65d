"""Holds most of a card, then loads data with workers, which are forks; takes a little more in each step."""

import torch
from torch.utils.data import DataLoader

held = torch.empty(15 << 30, dtype=torch.uint8, device="cuda")
layer = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(layer.parameters())
for batch in DataLoader(torch.ones(64, 8), batch_size=8, num_workers=2):
    more = torch.empty(5 << 30, dtype=torch.uint8, device="cuda")
    layer(batch.cuda()).sum().backward()
    optimizer.step()
    del more
