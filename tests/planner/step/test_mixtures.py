"""Mixtures of experts and latent attention against recorded dry runs: on every stack, byte for byte but for scalars."""

import json
from pathlib import Path
from statistics import median

import pytest

from planner.families import decoder_of
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step import step_lines
from tests.planner.step.recorded import Recorded, card, error_fraction, formula
from tests.planner.step.tables.mixture_settings import all_settings, small
from tests.planner.step.tables.settings import CARD, MIXTURES

FILE = Path(__file__).parent / "tables" / "recorded" / "mixtures.jsonl"
ROWS = [Recorded(**row) for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if "name" in row]
FAMILIES = (*MIXTURES, "deepseek_v32")
# gpt-oss trained whole: biases of experts, routers and sinks get gradients by ways that are not walked (0.35 %).
WORST_FRACTION = 0.004


def rows_of(family: str) -> list[Recorded]:
    return [row for row in ROWS if row.request["model"]["model_type"] == family]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_recorded_step_of_a_family_is_the_dry_runs(family: str) -> None:
    errors = {row.name: error_fraction(row) for row in rows_of(family)}
    assert len(errors) >= 2
    assert {name: error for name, error in errors.items() if abs(error) > WORST_FRACTION} == {}


def test_half_of_the_steps_agree_to_the_byte() -> None:
    assert median(abs(error_fraction(row)) for row in ROWS) < 1e-5


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert [row.name for row in ROWS if wanted.get(row.name) != row.request] == []


def document(family: str, **more: object) -> dict[str, object]:
    return {"model": {**small(family), **more}, "gpu": CARD}


def test_folded_expert_adapters_keep_a_second_copy_of_all_experts_without_checkpointing() -> None:
    """PEFT adds the product of A and B to the stacked weights, and autograd saves the sum, layer by layer."""
    request = Request.parse({**document("mixtral"), "training": {"gradient_checkpointing": False}})
    assert isinstance(request.model, dict)
    lines = step_lines(decoder_of(request.model), Recipe.of(request), card(request))
    folded = sum(line.bytes for line in lines if line.name.startswith("expert weights") and "backward" in line.alive_in)
    experts, inner, hidden, layers = 4, 1024, 1024, 3
    assert folded >= 2 * experts * 3 * inner * hidden * layers


def test_more_experts_cost_no_activations_but_for_the_router() -> None:
    """Each token goes to as many experts as before."""
    few, many = (
        formula({**document("qwen3_moe", num_experts=count), "lora": {"target_modules": ["q_proj"]}})
        for count in (8, 64)
    )
    tokens, layers, router_bytes_per_expert = 2048, 3, 16
    assert max(many.values()) - max(few.values()) <= tokens * (64 - 8) * layers * router_bytes_per_expert


def test_twice_the_experts_per_token_cost_the_rows_of_another_expert() -> None:
    one, two = (
        formula({**document("qwen3_moe", num_experts_per_tok=top), "lora": {"target_modules": ["q_proj"]}})
        for top in (4, 8)
    )
    tokens, hidden = 2048, 1024
    assert max(two.values()) - max(one.values()) >= 4 * tokens * hidden * 2


def test_a_card_without_grouped_mm_makes_the_gradient_of_frozen_experts() -> None:
    """The loop that stands in for it computes both gradients (integrations/moe.py, _grouped_mm_fallback_backward)."""
    half = {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}
    attention = {"lora": {"target_modules": ["q_proj"]}, "quantization": half}
    old = {"gpu": {**CARD, "compute_capability": "7.5"}}
    newer = {"gpu": {**CARD, "compute_capability": "8.0"}}
    without, having = (formula({**document("mixtral"), **attention, **gpu})["backward"] for gpu in (old, newer))
    experts, inner, hidden = 4, 1024, 1024
    assert without - having >= 2 * experts * inner * hidden
