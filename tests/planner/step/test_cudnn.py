"""Which cards run cuDNN's attention: torch's own choice on virtual cards, by `torch._fused_sdp_choice` of 2.14.1."""

import pytest

from planner.catalog import resolve_gpu
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.from_recipe.derive_switches import switches_of


@pytest.mark.parametrize(
    ("model", "gpu", "kernel"),
    [
        ("meta-llama/Llama-3.2-1B", "h100-sxm-80gb", "cudnn"),
        ("meta-llama/Llama-3.2-1B", "rtx-4090", "flash"),
        ("google/gemma-2-9b", "h100-sxm-80gb", "eager"),
        ("deepseek-ai/DeepSeek-V2-Lite", "h100-sxm-80gb", "cudnn"),
        ("deepseek-ai/DeepSeek-V2-Lite", "rtx-4090", "mem_efficient"),
    ],
)
def test_hopper_prefers_cudnn_for_the_widths_it_takes(model: str, gpu: str, kernel: str) -> None:
    request = Request.parse({"model": model, "gpu": gpu})
    decoder = resolve_model(request.model).known_decoder()
    assert switches_of(decoder, Recipe.of(request), resolve_gpu(gpu)).layers[0].kernel == kernel
