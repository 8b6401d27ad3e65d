"""A multimodal model is planned whole, or the headline says that its tower is missing and what it weighs."""

from dataclasses import replace

import pytest

from planner.answer.plan import plan
from planner.answer.static_lines import trained_tensors
from planner.catalog.model_rows import model_catalog
from planner.model.model import resolve_model
from planner.request.schema import Request
from planner.tensors.trainable import reached

TOWERS = [row for row in model_catalog().rows.values() if row.tower]
LOADED = [row.id for row in TOWERS if row.tower == "loaded"]
LEFT_OUT = [row.id for row in TOWERS if row.tower == "left out"]


def test_every_text_tower_of_the_catalogue_says_so() -> None:
    told = {row.id for row in TOWERS}
    assert {row.id for row in model_catalog().rows.values() if "text tower" in row.note} <= told
    assert len(told) == 21


@pytest.mark.parametrize("model", LOADED)
def test_a_tower_that_loads_is_counted_with_the_model(model: str) -> None:
    row = model_catalog().rows[model]
    assert resolve_model(model).params == row.full_model
    answer = plan(Request.parse({"model": model, "gpu": "h100", "method": "lora"}))
    (line,) = [line for line in answer.lines if line.name.startswith("vision tower")]
    assert 0 <= line.bytes - 2 * (row.full_model - row.params) < 512
    assert "beside it" in answer.to_dict()["model"]["beside"]


@pytest.mark.parametrize("model", LEFT_OUT)
def test_a_tower_that_is_left_out_is_weighed_in_the_headline(model: str) -> None:
    beside = resolve_model(model).beside
    assert beside.startswith("the text model alone")
    assert "GiB in 16 bit" in beside


def test_gemma_3_4b_has_all_its_parameters() -> None:
    assert resolve_model("google/gemma-3-4b-it").params == 4_300_079_472


def test_no_text_trains_a_tower() -> None:
    answer = plan(Request.parse({"model": "google/gemma-3-4b-it", "gpu": "h100", "method": "full"}))
    tensors = reached(trained_tensors(answer.model, answer.recipe))
    assert sum(tensor.elements * tensor.count for tensor in tensors) == 3_880_263_168


def test_a_model_without_a_tower_has_nothing_beside_it() -> None:
    assert resolve_model("Qwen/Qwen3-8B").beside == ""


def test_a_config_that_describes_towers_is_said_to_be_planned_without_them() -> None:
    text = {"model_type": "qwen3_5_text", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8}
    alone = resolve_model({"model_type": "qwen3_5", "text_config": text, "vision_config": {"depth": 12}})
    assert alone.beside == "the text model alone, without what AutoModelForCausalLM leaves out (vision tower)"
    assert resolve_model(text).beside == ""


def test_the_low_end_knows_that_a_tower_is_quantized_too() -> None:
    answer = plan(Request.parse({"model": "google/gemma-3-4b-it", "gpu": "l40s"}))
    (tower,) = [line.bytes for line in answer.lines if line.name.startswith("vision tower")]
    held = answer.estimate
    without = replace(held, perhaps_less_bytes=0)
    assert 0.72 * tower < without.lowest_bytes - held.lowest_bytes < tower
    in_16_bit = plan(Request.parse({"model": "google/gemma-3-4b-it", "gpu": "l40s", "method": "lora"}))
    assert in_16_bit.estimate.perhaps_less_bytes == 0
