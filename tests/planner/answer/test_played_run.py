"""Whole training runs, played in the pool in C and in the one in Python."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.allocator.load_phase import play_load
from planner.allocator.native_pools import FastPools, NativePools
from planner.allocator.python_pools import PythonPools
from planner.answer.replay.played_run import run_in
from planner.catalog import resolve_gpu
from planner.errors import FitproofError
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step import step_of
from planner.tensors.tensor_storage import place

MODELS = (
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-70b-hf",
    "mistralai/Mixtral-8x7B-v0.1",
    "deepseek-ai/DeepSeek-V3",
    "google/gemma-2-9b",
    "tiiuae/falcon-7b",
)
TRAINING = st.fixed_dictionaries(
    {
        "per_device_train_batch_size": st.integers(1, 16),
        "max_length": st.integers(1, 8192),
        "gradient_checkpointing": st.booleans(),
        "expandable_segments": st.booleans(),
        "optim": st.sampled_from(["adamw_torch", "paged_adamw_8bit", "adafactor"]),
    }
)
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "gpu": st.just("h200"),
        "method": st.sampled_from(["qlora", "lora", "full"]),
        "stack": st.sampled_from(["trainer", "trl", "kbit", "loop"]),
        "training": TRAINING,
    }
)


def readings(request: Request, pool_kind: type[FastPools]) -> list[tuple[int, ...]]:
    """What both pools hold after the load, the adapters and each of three steps."""
    model, recipe, gpu = resolve_model(request.model), Recipe.of(request), resolve_gpu(request.gpu)
    loaded = play_load(place(model.census, recipe), recipe, new_pools=pool_kind)
    run = run_in(loaded.pools, model, recipe, gpu)
    step = step_of(model.known_decoder(), recipe, gpu)
    found = [(loaded.loaded_slack_bytes, loaded.prepared_slack_bytes)]
    for _ in range(3):
        run.play(step)
        pools = run.pools
        found.append((pools.allocated_bytes, pools.reserved_bytes, pools.peak_reserved_bytes))
    return found


@given(REQUESTS)
@settings(max_examples=60, deadline=None)
def test_a_run_reads_the_same_in_c_and_in_python(document: dict[str, object]) -> None:
    try:
        request = Request.parse(document)
        in_python = readings(request, PythonPools)
    except FitproofError:
        return
    assert readings(request, NativePools) == in_python


@pytest.mark.parametrize("model", MODELS)
def test_every_family_here_is_played_in_both(model: str) -> None:
    request = Request.parse({"model": model, "gpu": "h200"})
    assert readings(request, NativePools) == readings(request, PythonPools)
