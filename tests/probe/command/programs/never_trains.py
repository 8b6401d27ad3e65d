"""Uses the card and makes no optimizer step."""

import torch

torch.ones(1, device="cuda")
