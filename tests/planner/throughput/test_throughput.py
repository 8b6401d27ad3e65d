"""Tokens per second: counted work, fitted shares, and a range that says when nothing stands behind it."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from planner.answer.plan import Plan, plan
from planner.evidence.throughput import REPORT_FILE, held_back, over, published_runs, report
from planner.request.schema import Request
from planner.throughput.rate import FITTED_FILE
from planner.throughput.work import work_of

LLAMA = "meta-llama/Llama-3.1-8B"
LONG = {"per_device_train_batch_size": 4, "max_length": 4096}


def planned(gpu: str = "a100-sxm-80gb", model: str = LLAMA, **more: Any) -> Plan:
    return plan(Request.parse({"model": model, "gpu": gpu, "training": LONG} | more))


def flops(of: Plan) -> int:
    assert of.model.decoder is not None
    return work_of(of.model, of.model.decoder, of.recipe, of.gpu, of.lines).flops


def test_what_is_committed_is_what_the_command_writes_today() -> None:
    fitted, page = report()
    assert json.loads(FITTED_FILE.read_text()) == json.loads(json.dumps(asdict(fitted)))
    assert REPORT_FILE.read_text() == page


def test_a_model_and_method_held_back_is_met_within_a_tenth() -> None:
    groups: dict[str, list[Any]] = {}
    for run in published_runs():
        if run.stock_kernels:
            groups.setdefault(run.group, []).append(run)
    assert len(groups) == 5
    for ratios in held_back(groups).values():
        assert all(0.9 < ratio < 1.12 for ratio in ratios)


def test_no_card_reaches_more_than_its_limits() -> None:
    assert all(ratio <= 1 for ratio in over(published_runs(), (1.0, 1.0)))


def test_full_tuning_multiplies_by_each_weight_four_times_where_lora_does_thrice() -> None:
    lora, full = planned(method="lora"), planned(method="full")
    weights = lora.model.params - 128256 * 4096  # the embedding is looked up
    adapters = 41_943_040  # of rank 16 on every linear layer; forward, again, and two gradients
    assert flops(full) - flops(lora) == pytest.approx(2 * 16384 * (weights - 4 * adapters), rel=0.0001)


def test_checkpointing_costs_a_forward_pass_of_the_layers() -> None:
    without = planned(training=LONG | {"gradient_checkpointing": False})
    assert 1.2 < flops(planned()) / flops(without) < 1.5


def test_a_mixture_counts_the_experts_a_token_meets() -> None:
    dense = planned(model="mistralai/Mistral-7B-v0.1", method="lora")
    mixture = planned(model="mistralai/Mixtral-8x7B-v0.1", method="lora")
    assert 1.5 < flops(mixture) / flops(dense) < 2


def test_a_run_like_the_published_ones_has_a_range_and_says_what_it_rests_on() -> None:
    found = planned().to_dict()["throughput"]
    rate = found["tokens_per_second"]
    assert rate["low"] < rate["likely"] < rate["high"]
    assert "published runs on A100 cards" in found["evidence"]


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (planned(gpu="rtx-4090"), "none was on this kind of card"),
        (planned(model="mistralai/Mixtral-8x7B-v0.1"), "none had mixtures of experts"),
        (planned(training={"max_length": 512}), "none had under 16,384 tokens"),
        (planned(training=LONG | {"objective": "dpo"}), "none had another objective than SFT"),
        (planned(gpus=2), "none counted was on several cards"),
    ],
)
def test_a_run_unlike_them_is_told_so_and_has_no_lower_end(run: Plan, word: str) -> None:
    found = run.to_dict()["throughput"]
    assert found["tokens_per_second"]["low"] is None
    assert word in found["evidence"]


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (planned(gpu="t4"), "do not multiply bfloat16"),
        (planned(gpu="b200"), "no source tells"),
        (planned(gpus=2, fsdp="full_shard", method="full"), "between cards is not planned"),
    ],
)
def test_what_cannot_be_told_is_a_reason_and_no_number(run: Plan, word: str) -> None:
    found = run.to_dict()["throughput"]
    assert found["tokens_per_second"] is None
    assert word in found["evidence"]


def test_the_limits_of_well_known_cards_are_those_of_their_data_sheets() -> None:
    tera = {gpu: planned(gpu=gpu).gpu.half_flops or 0 for gpu in ("a100-sxm-80gb", "rtx-3090", "rtx-4090", "t4")}
    assert {gpu: round(flops / 1e12) for gpu, flops in tera.items()} == {
        "a100-sxm-80gb": 312, "rtx-3090": 71, "rtx-4090": 165, "t4": 65,
    }  # fmt: skip
