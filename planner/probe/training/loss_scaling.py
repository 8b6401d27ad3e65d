"""Loss scaling: what accelerate puts around the step where autocast is float16."""

import torch

from planner.request.recipe import Recipe

# Its value moves no bytes. transformers begins at 65536 and skips the steps whose gradients overflow until it has come
# down; here the first step has to be a whole one, so that optimizer states appear in it.
INITIAL_SCALE = 1.0


def grad_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """The stack's scaler; one that is not enabled passes everything through."""
    enabled = recipe.scales_loss and scales_on(device)
    return torch.amp.GradScaler(device.type, init_scale=INITIAL_SCALE, enabled=enabled)


def scales_on(device: torch.device) -> bool:
    """Whether accelerate makes a scaler for this device (accelerate/accelerator.py, "Mixed precision attributes").

    It makes none on a CPU.
    """
    return device.type != "cpu"
