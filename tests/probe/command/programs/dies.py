"""A program with a fault of its own."""

import torch

torch.ones(1, device="cuda")
raise ValueError("no such data set: corpus.jsonl")
