"""Runs with float16 and bfloat16 in them, against recorded dry runs."""

from pathlib import Path

import pytest

from planner import plan
from planner.request.schema import Request
from tests.planner.step.recorded import phase_errors, recorded
from tests.planner.step.tables.half_type_settings import HALVES, REVERSED, all_settings
from tests.planner.step.tables.settings import CARD, LLAMA

ROWS = recorded(Path(__file__).parent / "tables" / "recorded" / "half_types.jsonl")


def test_every_phase_is_the_dry_runs_to_a_third_of_a_permille_and_nearly_all_to_the_byte() -> None:
    errors = {row.name: max(map(abs, phase_errors(row))) for row in ROWS}
    assert {name: error for name, error in errors.items() if error > 0.0003} == {}
    assert sum(error == 0 for error in errors.values()) >= len(errors) - 2


def test_recorded_requests_are_those_of_the_settings() -> None:
    assert {row.name: row.request for row in ROWS} == {line["name"]: line["request"] for line in all_settings()}


@pytest.mark.parametrize("stack", [HALVES, REVERSED])
def test_a_checkpoint_in_the_other_16_bit_type_costs_a_copy_of_each_weight_until_the_backward_pass(
    stack: dict[str, object],
) -> None:
    alike = {**stack, "model_dtype": stack["autocast"]}
    training = {"gradient_checkpointing": False, "max_length": 64}
    both, one = (
        plan(Request.parse({"model": LLAMA, "gpu": CARD, "method": "lora", "stack": each, "training": training}))
        for each in (stack, alike)
    )
    linear = both.model.params - 2 * LLAMA["vocab_size"] * LLAMA["hidden_size"]
    assert both.peak_allocated_bytes - one.peak_allocated_bytes > 2 * linear
