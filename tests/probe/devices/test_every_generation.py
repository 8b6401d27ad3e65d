"""On a card of every generation: where memory runs out, padded and packed batches, mixtures, a tower."""

from typing import Any

import pytest
import torch
from transformers import DataCollatorWithFlattening

from planner.probe.devices.virtual_card import insert_card, make_values_true
from planner.probe.training.configs import config_of
from planner.probe.training.load import model_class_of
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.units import MIB
from tests.probe import helper
from tests.probe.tiny import MODELS, allocated, on_card, request

# Compute capability 7.5, 8.6, 8.9, 9.0, 12.0.
CARDS = ["t4", "rtx-3090", "rtx-4090", "h100-sxm-80gb", "rtx-5090"]
# Trained in full with wide layers: reserved memory grows from each of these phases to the next.
GROWING = {
    "method": "full",
    "config": {"hidden_size": 512, "intermediate_size": 8192},
    "training": {"max_length": 512, "optim": "adamw_torch"},
}
FAILING = ["load", "first_forward", "first_backward", "first_optimizer"]
TOWER = {
    "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **MODELS["gemma3_text"]},
    "vision_config": TOWER, "mm_tokens_per_image": 4,
    "image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502,
}  # fmt: skip


@pytest.fixture(params=CARDS)
def card(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_memory_runs_out_in_whichever_phase_asks_for_too_much(card: str) -> None:
    asked = request(gpu=card, **GROWING)
    whole = on_card(asked)
    reserved = {phase.name: phase.peak_reserved_bytes or 0 for phase in whole.phases}
    before = list(reserved)
    for phase in FAILING:
        enough_bytes = max((reserved[name] for name in before[: before.index(phase)]), default=16 * MIB)
        assert reserved[phase] > enough_bytes + 2 * MIB
        capped = on_card(asked, memory_limit_bytes=(whole.context_bytes or 0) + enough_bytes + 2 * MIB)
        assert (capped.outcome, capped.failed_phase) == ("out_of_memory", phase)
        assert any("CUDA out of memory. Tried to allocate" in note for note in capped.notes)


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_a_mixture_trains(card: str, model: str) -> None:
    assert on_card(request(model, gpu=card)).outcome == "ok"


def test_gemma_3_trains_with_its_tower_beside_it(card: str) -> None:
    whole, text = (
        on_card(Request.parse({"model": model, "gpu": card, "method": "lora", "training": {"max_length": 64}}))
        for model in (GEMMA3, GEMMA3["text_config"])
    )
    assert whole.outcome == "ok"
    # Two layers of attention and MLP in bfloat16, at the least.
    assert allocated(whole)["load"] - allocated(text)["load"] > 2 * 2 * (4 * 64 * 64 + 2 * 64 * 128)


def test_a_padded_batch_has_a_mask_and_takes_more(card: str) -> None:
    training = {"max_length": 1024, "gradient_checkpointing": False}
    plain, padded = (on_card(request(gpu=card, training=training | {"padded": said})) for said in (False, True))
    assert allocated(padded)["forward"] > allocated(plain)["forward"]


def test_a_packed_batch_keeps_its_sequences_apart_and_takes_more(card: str) -> None:
    asked = request(gpu=card)
    one, four = (helper.call(peak_of_packed, asked, count) for count in (1, 4))
    # A byte for each pair of the 1,024 tokens: the mask by which a token sees its own sequence only.
    assert four - one >= 1024 * 1024


def peak_of_packed(asked: Request, count: int) -> int:
    """Peak of a step on `count` sequences packed into a batch of 1,024 tokens, in a process of its own."""
    insert_card(asked)
    make_values_true(0, "even")
    config = config_of(asked, Recipe.of(asked))
    rows: list[dict[str, Any]] = [{"input_ids": [5] * (1024 // count)}] * count
    batch = DataCollatorWithFlattening()(rows)
    with torch.device("cuda"):
        model: Any = model_class_of(config)(config).to(torch.float16)
    model.train()(use_cache=False, **{name: value.cuda() for name, value in batch.items()}).loss.backward()
    torch.optim.AdamW(model.parameters()).step()
    return torch.cuda.max_memory_allocated()
