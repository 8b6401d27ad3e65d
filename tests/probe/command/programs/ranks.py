"""Each rank takes the card of its number and leaves; for torchrun."""

import os

import torch

torch.ones(1, device=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
