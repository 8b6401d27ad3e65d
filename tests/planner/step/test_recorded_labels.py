"""How well a figure is known follows from torch's own record, by family and switches, and is said with each answer."""

from typing import Any

import pytest

from planner import plan
from planner.answer.plan import Plan
from planner.request.schema import Request
from planner.step.recorded.comparison import Comparison, Row
from tests.planner.step.tables.settings import CARD, LLAMA


def planned(**more: Any) -> Plan:
    training = {"max_length": 1024, "loss": "full_logits", **more.pop("training", {})}
    return plan(Request.parse({"model": LLAMA, "gpu": CARD, "training": training, **more}))


def step_labels(found: Plan) -> set[str]:
    return {line.evidence for line in found.lines if line.cause == "activations"}


def test_a_recorded_run_that_was_equal_to_the_byte_is_exact() -> None:
    found = planned()
    assert found.comparison
    assert (found.comparison.unlike, found.comparison.worst_fraction) == ((), 0)
    assert step_labels(found) == {"exact"}
    assert "phases equal to the byte" in found.comparison.sentence


def test_switches_that_nobody_recorded_are_said_not_to_be_and_the_nearest_are_named() -> None:
    found = planned(training={"loss": "cut_cross_entropy"})
    assert found.comparison
    assert found.comparison.unlike == ("loss",)
    assert step_labels(found) == {"not recorded"}
    assert "Not recorded with these settings; the nearest on record differ in loss" in found.comparison.sentence


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"attention_bias": True}, "attention layers"),
        ({"mlp_bias": True}, "feed-forward layers"),
        ({"tie_word_embeddings": True}, "embeddings and head"),
    ],
)
def test_a_model_built_otherwise_is_told_by_the_part_that_is(config: dict[str, Any], part: str) -> None:
    found = planned(model=LLAMA | config, stack="kbit")
    assert found.comparison
    assert f"the nearest on record differ in {part}:" in found.comparison.sentence


def test_a_family_without_a_record_says_so() -> None:
    found = planned(model={**LLAMA, "model_type": "internlm3"})
    assert found.comparison
    assert found.comparison.to_dict()["worst_fraction"] is None
    assert step_labels(found) == {"not recorded"}


def test_several_cards_are_not_called_what_one_card_is() -> None:
    found = planned(method="full", gpus=2)
    assert found.comparison
    assert "cards" in found.comparison.unlike
    assert step_labels(found) == {"not recorded"}


def test_a_length_and_a_rank_decide_no_tensor_and_so_no_label() -> None:
    assert step_labels(planned(training={"max_length": 3000}, lora={"r": 48})) == {"exact"}


def test_each_line_has_the_label_of_its_own_part() -> None:
    labels = {line.name: line.evidence for line in planned(training={"optim": "adamw_torch_fused"}).lines}
    names = ("LoRA matrices", "optimizer state (adamw_torch_fused)", "cuBLAS workspaces")
    assert [labels[name] for name in names] == ["exact"] * 3
    assert {planned(quantization={"quant_method": "hqq"}).lines[0].evidence} == {"not recorded"}


@pytest.mark.parametrize(
    ("worst", "said"), [(0.0, "6 of 6 phases equal to the byte"), (0.0031, "within 0.4 %"), (0.00001, "within 0.001 %")]
)
def test_a_difference_is_rounded_up(worst: float, said: str) -> None:
    row = Row({}, settings=2, phases=3, unequal={"loss": (1, worst)} if worst else {})
    assert said in Comparison(row).sentence
