"""PEFT's methods beside LoRA against dry runs of PEFT's own: AdaLoRA, VeRA, IA3, OFT."""

from pathlib import Path

import pytest

from planner.step.recorded.comparison import STANDING, STEP_PHASES
from tests.planner.step.compared import ComparedRow, compared_row
from tests.planner.step.recorded import recorded
from tests.planner.step.tables.method_settings import METHODS, STACKS, all_settings

ROWS = [compared_row(row) for row in recorded(Path(__file__).parent / "tables" / "recorded" / "methods.jsonl")]


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert {each.row.name: each.row.request for each in ROWS} == wanted


def test_every_method_was_recorded_on_every_stack_in_4_and_16_bit() -> None:
    requests = [each.row.request for each in ROWS]
    met = {(one["lora"]["peft_type"], one.get("stack"), one.get("method", "qlora")) for one in requests}
    every = {(name, stack, method) for name in METHODS for stack in STACKS for method in ("qlora", "lora")}
    assert every - met == {("IA3", "loop", "qlora")}  # which PEFT cannot run


# What AdaLoRA adds to a loss of another kind is near, and not equal to the byte.
NEAR = {"ADALORA dpo", "ADALORA liger"}


@pytest.mark.parametrize("each", [one for one in ROWS if one.row.name not in NEAR], ids=lambda each: each.row.name)
def test_every_phase_is_the_dry_runs_to_the_byte(each: ComparedRow) -> None:
    assert each.differences_bytes == dict.fromkeys((*STEP_PHASES, "optimizer", STANDING), 0)


def test_what_is_not_equal_is_off_by_a_quarter_of_a_permille_of_the_loss() -> None:
    rows = [each for each in ROWS if each.row.name in NEAR]
    assert len(rows) == len(NEAR)
    for each in rows:
        assert {phase for phase, size in each.differences_bytes.items() if size} == {"loss"}
        assert abs(each.fraction("loss")) < 0.00025
