"""LoraConfig's further options against dry runs of PEFT's own: copies of whole modules."""

from pathlib import Path
from statistics import median

import pytest

from planner.step.recorded.comparison import STANDING, STEP_PHASES
from tests.planner.step.compared import ComparedRow, compared_row
from tests.planner.step.recorded import recorded
from tests.planner.step.tables.adapter_settings import all_settings

ROWS = [compared_row(row) for row in recorded(Path(__file__).parent / "tables" / "recorded" / "adapters.jsonl")]


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert {each.row.name: each.row.request for each in ROWS} == wanted


def test_every_stack_method_and_end_of_a_model_was_recorded() -> None:
    requests = [each.row.request for each in ROWS]
    assert {"trainer", "trl", "kbit", "loop"} <= {request.get("stack", "trainer") for request in requests}
    assert {"qlora", "lora"} <= {request.get("method", "qlora") for request in requests}
    named = {name for request in requests for name in request["lora"].get("modules_to_save", ())}
    assert {"embed_tokens", "lm_head", "norm", "down_proj"} <= named


def test_peaks_are_met_to_a_thousandth_percent_at_the_median_and_a_permille_at_worst() -> None:
    errors = [abs(each.peak_fraction) for each in ROWS]
    assert len(errors) >= 60
    assert median(errors) <= 0.00001
    assert max(errors) <= 0.001


@pytest.mark.parametrize("each", ROWS, ids=lambda each: each.row.name)
def test_every_phase_is_within_half_a_percent(each: ComparedRow) -> None:
    assert each.differences_bytes[STANDING] == 0
    assert max(abs(each.fraction(phase)) for phase in (*STEP_PHASES, "optimizer")) <= 0.005
