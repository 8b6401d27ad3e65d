"""Preference objectives, reward models and GRPO against recorded dry runs of TRL's own loss code."""

import json
from pathlib import Path
from statistics import median

import pytest

from planner import Plan, plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.planner.step.recorded import Recorded, error_fraction, phase_errors, static_bytes
from tests.planner.step.tables import grpo_settings, preference_settings, reward_settings
from tests.planner.step.tables.settings import CARD, LLAMA

SETTINGS = [*preference_settings.all_settings(), *reward_settings.all_settings(), *grpo_settings.all_settings()]


def _rows(name: str) -> list[Recorded]:
    lines = (Path(__file__).parent / "tables" / "recorded" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Recorded(**row) for row in map(json.loads, lines) if "name" in row]


GENERATED = _rows("grpo")
ROWS = [*_rows("preference"), *_rows("reward"), *GENERATED]
WORST_FRACTION = 0.0025
MEDIAN_FRACTION = 0.001


def test_every_recorded_step_is_the_dry_runs() -> None:
    assert len(ROWS) >= 160
    assert len(GENERATED) >= 30
    assert {row.name: error_fraction(row) for row in ROWS if abs(error_fraction(row)) > WORST_FRACTION} == {}


def test_half_of_the_phases_are_within_a_permille() -> None:
    assert median(abs(error) for row in ROWS for error in phase_errors(row)) < MEDIAN_FRACTION


def test_what_stands_before_the_step_is_equal_to_the_byte() -> None:
    rows = [row for row in ROWS if row not in GENERATED]
    assert {row.name: static_bytes(row.request) - row.static_bytes for row in rows} == dict.fromkeys(
        (row.name for row in rows), 0
    )


def test_beside_that_grpo_keeps_the_tokens_it_generated_with_their_masks_and_scores() -> None:
    for row in GENERATED:
        training = row.request["training"]
        sequences = training["per_device_train_batch_size"] * training.get("gradient_accumulation_steps", 1)
        tokens_bytes = 16 * sequences * training["max_length"]
        scores_bytes = 4 * sequences * training["max_completion_length"]
        held_bytes = row.static_bytes - static_bytes(row.request)
        assert tokens_bytes < held_bytes <= tokens_bytes + scores_bytes + 4 * 512, row.name


def _grpo_plan(gpu: str = "rtx-4090", **training: object) -> Plan:
    document = {"model": "qwen2.5-1.5b", "gpu": gpu, "stack": "trl", "method": "lora"}
    own = {"objective": "grpo", "max_length": 1024, "max_completion_length": 512, "per_device_train_batch_size": 4}
    return plan(Request.parse(document | {"training": own | training}))


def test_generation_that_takes_more_than_training_is_the_forward_phase_and_is_reserved() -> None:
    few, many = _grpo_plan(), _grpo_plan(gradient_accumulation_steps=64)
    assert not any("generated" in line.name for line in few.lines)
    cache = next(line for line in many.lines if line.name.startswith("key and value cache while"))
    assert cache.alive_in == ("forward",)
    assert many.peak_phase == "forward"
    assert many.estimate.reserved_bytes() >= many.peak_allocated_bytes
    # 28 layers, keys and values of 256 columns, 16 bit, of 256 sequences.
    assert 28 * 2 * 256 * 2 * 256 * 511 <= cache.bytes <= 28 * 2 * 256 * 2 * 256 * 1024
    totals = {phase.name: phase.allocated_bytes for phase in many.phases}
    lines = sum(line.bytes for line in many.lines if "forward" in line.alive_in)
    assert totals["forward"] == lines


def test_grpo_has_a_reference_where_beta_asks_for_one() -> None:
    document = {"model": "qwen2.5-1.5b", "gpu": "h100-sxm", "method": "full", "stack": "trl"}
    for beta, there in ((0.0, False), (0.04, True)):
        answer = plan(Request.parse(document | {"training": {"objective": "grpo", "beta": beta}}))
        assert any(line.name == "reference model" for line in answer.lines) is there


def test_vllm_in_the_process_takes_its_share_in_place_of_generation() -> None:
    answer = _grpo_plan(gradient_accumulation_steps=64, vllm_gpu_memory_utilization=0.3)
    share = next(line for line in answer.lines if "vLLM" in line.name)
    assert (share.bytes, share.evidence) == (round(0.3 * answer.usable_bytes), "modelled")
    assert not any("generated" in line.name for line in answer.lines)
    elsewhere = _grpo_plan(gradient_accumulation_steps=64, vllm_gpu_memory_utilization=0.0)
    assert answer.peak_allocated_bytes - elsewhere.peak_allocated_bytes == share.bytes


def test_recorded_requests_are_those_of_the_settings() -> None:
    assert {row.name: row.request for row in ROWS} == {line["name"]: line["request"] for line in SETTINGS}


def _peak_bytes(**training: object) -> int:
    training = {"max_length": 2048, "gradient_checkpointing": False, **training}
    return plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": training})).peak_allocated_bytes


def test_a_pair_needs_no_less_than_two_sequences() -> None:
    assert _peak_bytes(objective="dpo") >= _peak_bytes(per_device_train_batch_size=2)


def test_a_reference_model_weighs_what_the_weights_do_and_precomputed_scores_spare_it() -> None:
    document = {"model": "qwen2.5-7b", "gpu": "h100-sxm", "method": "full", "stack": "trl"}
    with_model, without = (
        plan(Request.parse(document | {"training": {"objective": "dpo", "precompute_ref_log_probs": known}}))
        for known in (False, True)
    )
    line = next(line for line in with_model.ledger.lines if line.name == "reference model")
    assert line.bytes > 15_000_000_000
    assert not any(line.name == "reference model" for line in without.ledger.lines)
    reserved = with_model.required_bytes.likely - without.required_bytes.likely
    assert 0.98 < reserved / line.bytes < 1.1


def test_a_reward_model_has_no_vocabulary_to_score() -> None:
    document = {"model": "qwen2.5-7b", "gpu": "h100-sxm", "method": "lora", "stack": "trl"}
    scored, trained = (
        plan(Request.parse(document | {"training": training}))
        for training in ({"objective": "reward"}, {"per_device_train_batch_size": 2, "padded": True})
    )
    assert trained.model.params - scored.model.params == 152_064 * 3584 - 3584
    assert not any("logit" in line.name for line in scored.ledger.lines if line.bytes > 512)


def test_a_model_without_a_class_that_scores_is_refused() -> None:
    document = {"model": "allenai/OLMoE-1B-7B-0924", "gpu": "h100-sxm", "training": {"objective": "reward"}}
    with pytest.raises(InvalidRequestError) as caught:
        plan(Request.parse(document))
    assert [problem.field for problem in caught.value.problems] == ["training.objective"]


def test_no_advice_for_a_reward_model_changes_a_loss_that_it_has_not() -> None:
    training = {"objective": "reward", "max_length": 8192, "gradient_checkpointing": False}
    answer = plan(Request.parse({"model": "qwen2.5-7b", "gpu": "rtx-4090", "stack": "trl", "training": training}))
    assert answer.advice
    assert not any("training.loss" in item.change for item in answer.advice)


@pytest.mark.parametrize(
    ("request_part", "field"),
    [
        ({"training": {"ref_model": "copy"}}, "training.ref_model"),
        ({"training": {"precompute_ref_log_probs": True}}, "training.precompute_ref_log_probs"),
        ({"training": {"objective": "dpo", "loss": "liger"}}, "training.loss"),
        ({"training": {"objective": "reward", "loss": "full_logits"}}, "training.loss"),
        ({"training": {"objective": "grpo", "max_length": 256}}, "training.max_completion_length"),
        ({"training": {"objective": "grpo", "ref_model": "copy"}}, "training.ref_model"),
        ({"training": {"objective": "grpo", "num_generations": 8}}, "training.num_generations"),
        (
            {"training": {"objective": "grpo", "gradient_accumulation_steps": 4, "steps_per_generation": 2}},
            "training.steps_per_generation",
        ),
        ({"training": {"objective": "dpo", "beta": 0.1}}, "training.beta"),
        ({"training": {"objective": "dpo"}, "gpus": 2, "fsdp": "full_shard"}, "fsdp"),
        ({"training": {"objective": "ppo"}}, "training.objective"),
    ],
)
def test_what_no_formula_plans_is_refused_by_its_name(request_part: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.parse({"model": "qwen2.5-7b", "gpu": "h100-sxm", **request_part})
    assert [problem.field for problem in caught.value.problems] == [field]
