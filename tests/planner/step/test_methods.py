"""PEFT's methods beside LoRA against dry runs of PEFT's own: VeRA, IA3, OFT."""

from pathlib import Path

import pytest

from planner.step.recorded.comparison import STANDING, STEP_PHASES
from tests.planner.step.compared import ComparedRow, compared_row
from tests.planner.step.recorded import recorded
from tests.planner.step.tables.method_settings import METHODS, STACKS, all_settings

ROWS = [compared_row(row) for row in recorded(Path(__file__).parent / "tables" / "recorded_methods.jsonl")]


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert {each.row.name: each.row.request for each in ROWS} == wanted


def test_every_method_was_recorded_on_every_stack_in_4_and_16_bit() -> None:
    requests = [each.row.request for each in ROWS]
    met = {(one["lora"]["peft_type"], one.get("stack"), one.get("method", "qlora")) for one in requests}
    every = {(name, stack, method) for name in METHODS for stack in STACKS for method in ("qlora", "lora")}
    assert every - met == {("IA3", "loop", "qlora")}  # which PEFT cannot run


@pytest.mark.parametrize("each", ROWS, ids=lambda each: each.row.name)
def test_every_phase_is_the_dry_runs_to_the_byte(each: ComparedRow) -> None:
    assert each.differences_bytes == dict.fromkeys((*STEP_PHASES, "optimizer", STANDING), 0)
