"""The families of 2026 against recorded dry runs: shared keys, layer inputs, linear attention."""

import json
from pathlib import Path
from statistics import median

import pytest

from planner import plan
from planner.catalog.model_rows import model_catalog
from planner.request.schema import Request
from tests.planner.step.recorded import Recorded, error_fraction, formula
from tests.planner.step.tables.latest_settings import LATEST, OFF, all_settings
from tests.planner.step.tables.settings import CARD

FILE = Path(__file__).parent / "tables" / "recorded" / "latest.jsonl"
ROWS = [Recorded(**row) for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if "name" in row]
WORST_FRACTION = 0.0035


@pytest.mark.parametrize("name", LATEST)
def test_every_recorded_step_of_a_family_is_the_dry_runs(name: str) -> None:
    rows = [row for row in ROWS if row.name.startswith(f"{name} ")]
    assert len(rows) >= 16
    assert {row.name: error_fraction(row) for row in rows if abs(error_fraction(row)) > WORST_FRACTION} == {}


def test_every_other_recorded_step_is_the_dry_runs() -> None:
    assert {row.name: error_fraction(row) for row in ROWS if abs(error_fraction(row)) > WORST_FRACTION} == {}


def test_half_of_the_steps_agree_to_the_byte() -> None:
    assert median(abs(error_fraction(row)) for row in ROWS) < 1e-4


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert {row.name: row.request for row in ROWS} == wanted


@pytest.mark.parametrize("name", LATEST)
def test_every_family_walks_on_every_stack_and_loss(name: str) -> None:
    for stack in ("trainer", "trl", "kbit", "loop"):
        for loss in ("full_logits", "chunked", "liger"):
            document = {"model": LATEST[name], "gpu": CARD, "stack": stack, "training": {"loss": loss}}
            assert all(size > 0 for size in formula(document).values())


def test_layers_that_reuse_keys_cost_less_than_layers_that_make_them() -> None:
    reusing = {**LATEST["gemma4 E4B"], "use_double_wide_mlp": False}
    making = {**reusing, "num_kv_shared_layers": 0}
    few, many = (formula({"model": model, "gpu": CARD, "training": OFF}) for model in (reusing, making))
    assert few["backward"] < many["backward"]


def test_the_inputs_of_all_layers_are_one_tensor_and_so_is_their_gradient() -> None:
    """Twice the columns of each layer's input cost at least both once more."""
    narrow = LATEST["gemma4 E4B"]
    wide = {**narrow, "hidden_size_per_layer_input": 256}
    one, two = (formula({"model": model, "gpu": CARD}) for model in (narrow, wide))
    tokens, layers, more = 2048, 7, 128
    assert two["backward"] - one["backward"] >= 2 * 2 * tokens * layers * more


def test_linear_attention_saves_a_state_for_every_chunk() -> None:
    """Without checkpointing, 64 tokens more keep one state more per layer, in float32 and twice in 16 bit."""
    model = LATEST["qwen3_5"]
    short, long = (formula({"model": model, "gpu": CARD, "training": {**OFF, "max_length": n}}) for n in (1024, 1088))
    heads, key, value, layers = 8, 128, 128, 3
    assert long["backward"] - short["backward"] >= 8 * heads * key * value * layers


def test_a_length_of_broken_chunks_costs_no_less_than_the_whole_chunks_below() -> None:
    model = LATEST["qwen3_5"]
    whole, broken = (formula({"model": model, "gpu": CARD, "training": {"max_length": n}}) for n in (1024, 1025))
    assert broken["backward"] > whole["backward"]


@pytest.mark.parametrize("name", ["gemma4", "gemma4_text", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"])
def test_the_catalogues_models_are_planned_with_and_without_checkpointing(name: str) -> None:
    """The step is played through the allocator, too, where what one layer frees another must have made."""
    rows = [row.id for row in model_catalog().rows.values() if row.model_type == name]
    assert rows
    for model in rows:
        for training in ({}, OFF):
            answer = plan(Request.parse({"model": model, "gpu": "h100-sxm", "training": training}))
            assert answer.required_bytes.likely >= answer.peak_allocated_bytes
