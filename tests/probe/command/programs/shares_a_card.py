"""Trains beside a process of its own that holds 16 GiB of the same card. Argument: GiB that the training holds."""

import subprocess
import sys

import torch

HOLD = """
import sys, torch
held = torch.empty(16 << 30, dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""
holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
holder.stdout.readline()
held = torch.empty(int(sys.argv[1]) << 30, dtype=torch.uint8, device="cuda")
layer = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(layer.parameters())
while True:
    layer(torch.ones(8, 8, device="cuda")).sum().backward()
    optimizer.step()
