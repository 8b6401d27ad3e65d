"""The kept replays of falling capacities are those that today's formulas would make."""

import json
from typing import Any

import pytest

from planner import Request, plan
from planner.answer.replay.reserved_bytes import smallest_capacity_bytes
from planner.evidence.fragmentation import MODELS, RECIPES, ROWS_FILE

ROWS: list[dict[str, Any]] = [json.loads(line) for line in ROWS_FILE.read_text(encoding="utf-8").splitlines()]


def test_every_model_was_played_in_every_way() -> None:
    assert len(ROWS) == len(MODELS) * len(RECIPES) * 4
    assert {row["request"]["model"] for row in ROWS} == set(MODELS)


def test_kept_peaks_are_todays() -> None:
    for row in ROWS:
        answer = plan(Request.parse(row["request"]))
        assert row["allocated_bytes"] == pytest.approx(answer.peak_allocated_bytes, rel=0.005)


@pytest.mark.parametrize("row", ROWS[:28:9], ids=lambda row: str(row["request"]["training"]))
def test_played_again_a_run_survives_with_what_is_kept(row: dict[str, Any]) -> None:
    answer = plan(Request.parse(row["request"]))
    again = smallest_capacity_bytes(answer.model, answer.recipe, answer.gpu)
    assert again == pytest.approx(row["capacity_bytes"], rel=0.02)


def test_a_run_needs_at_least_what_is_alive_at_once_and_at_most_what_it_reserves_with_plenty() -> None:
    # Up to 1.304: a workspace of autograd's among the logits costs a segment of their size.
    for row in ROWS:
        assert row["capacity_bytes"] >= row["allocated_bytes"] * 0.999  # the last block's slack may go unused
        assert row["capacity_bytes"] <= row["allocated_bytes"] * 1.31
