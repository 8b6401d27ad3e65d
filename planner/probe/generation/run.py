"""Load a model as it is served and let it generate, phase by phase under torch's own memory statistics."""

from typing import Any

import torch

from planner.probe.checkpoint.source import checkpoint_of
from planner.probe.generation.caches import cache_options
from planner.probe.options import Options
from planner.probe.training.configs import config_of
from planner.probe.training.load import load_model
from planner.probe.training.prepare import prepare_model
from planner.request.schema import Request
from planner.serving.request import Inference


def watched_generate(asked: Inference, loaded: Request) -> dict[str, int]:
    """Peaks of allocated bytes while the model loads, while it reads the prompt and while it makes the tokens."""
    peaks: dict[str, int] = {}
    recipe, device = asked.recipe(loaded), torch.device("cuda", 0)
    config = config_of(loaded, recipe)
    with checkpoint_of(loaded, recipe, config, Options()) as weights:
        model: Any = load_model(loaded, recipe, config, device, weights)
    _close(peaks, "load")
    whole = model
    if asked.beside:
        model = prepare_model(model, recipe)
    model.eval()
    hook = whole.register_forward_hook(lambda *_: _close_once(peaks, "prefill"))
    prompt = torch.ones((asked.batch, asked.prompt), dtype=torch.long, device=device)
    model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
        max_new_tokens=asked.max_new_tokens, eos_token_id=None, pad_token_id=0, **cache_options(asked),
    )  # fmt: skip
    hook.remove()
    _close(peaks, "decode")
    return peaks


def _close(peaks: dict[str, int], name: str) -> None:
    """End a phase: note its peak and begin the next."""
    peaks[name] = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()


def _close_once(peaks: dict[str, int], name: str) -> None:
    if name not in peaks:
        _close(peaks, name)
