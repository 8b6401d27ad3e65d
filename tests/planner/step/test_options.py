"""Options of SFTConfig and TrainingArguments against recorded dry runs."""

from pathlib import Path
from statistics import median

import pytest

from planner import plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.planner.step.recorded import error_fraction, phase_errors, recorded
from tests.planner.step.tables.option_settings import all_settings
from tests.planner.step.tables.settings import CARD, LLAMA

ROWS = recorded(Path(__file__).parent / "tables" / "recorded" / "options.jsonl")


def test_the_peak_of_a_step_is_the_dry_runs_to_a_permille() -> None:
    errors = {row.name: abs(error_fraction(row)) for row in ROWS}
    assert median(errors.values()) == 0
    assert {name: error for name, error in errors.items() if error > 0.001} == {}


def test_the_phases_of_a_packed_step_are_the_dry_runs() -> None:
    packed = [row for row in ROWS if row.request["training"].get("packing")]
    assert len(packed) >= 30
    assert {row.name for row in packed if max(map(abs, phase_errors(row))) > 0.0001} == set()


def test_recorded_requests_are_those_of_the_settings() -> None:
    assert {row.name: row.request for row in ROWS} == {line["name"]: line["request"] for line in all_settings()}


def peak_bytes(**training: object) -> int:
    return plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": training})).peak_allocated_bytes


def test_a_packed_batch_has_a_mask_that_grows_with_its_square_and_none_with_flash_attention() -> None:
    rows = {"max_length": 4096, "per_device_train_batch_size": 4}
    tokens = 4 * 4096
    equal, packed = peak_bytes(**rows), peak_bytes(**rows, packing=True)
    flash = peak_bytes(**rows, packing=True, attn_implementation="flash_attention_2")
    # The mask in one byte, and of the layer that is run backward its additive form in two.
    assert packed - equal > 3 * tokens**2
    assert abs(flash - equal) < tokens * 1024


def test_packing_is_refused_with_what_contradicts_it() -> None:
    for more in ({"training": {"padded": True}}, {"training": {"objective": "dpo"}}, {"stack": "unsloth"}):
        training = {**more.get("training", {}), "packing": True}
        with pytest.raises(InvalidRequestError) as caught:
            Request.parse({"model": LLAMA, "gpu": CARD, **more, "training": training})
        assert "packing" in str(caught.value.problems)


def test_a_packed_plan_says_what_flash_attention_would_spare() -> None:
    training = {"packing": True, "max_length": 8192}
    answer = plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": training}))
    notice = next(notice for notice in answer.warnings if notice.code == "packed_without_flash")
    assert notice.bytes is not None
    assert notice.bytes > 8192**2


def test_an_evaluation_that_takes_more_than_a_step_is_the_peak_and_is_named() -> None:
    wide = {**LLAMA, "vocab_size": 128_256}
    request = {"model": wide, "gpu": CARD, "training": {"per_device_eval_batch_size": 8, "max_length": 1024}}
    answer = plan(Request.parse(request))
    notice = next(notice for notice in answer.warnings if notice.code == "evaluation_is_the_peak")
    assert notice.bytes is not None
    assert answer.peak.name == "loss"
    # All logits in 16 bit, in float32 and as log-probabilities.
    assert sum(line.bytes for line in answer.lines if "while evaluating" in line.name) >= 10 * 8 * 1024 * 128_256


def test_evaluating_no_more_than_is_trained_costs_nothing() -> None:
    request = {"model": LLAMA, "gpu": CARD, "training": {"per_device_eval_batch_size": 1}}
    answer = plan(Request.parse(request))
    assert "evaluation_is_the_peak" not in {notice.code for notice in answer.warnings}
    assert answer.peak_allocated_bytes == plan(Request.parse({"model": LLAMA, "gpu": CARD})).peak_allocated_bytes


def test_evaluation_that_is_not_planned_is_said() -> None:
    training = {"per_device_eval_batch_size": 8, "objective": "dpo"}
    answer = plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": training}))
    assert "evaluation_left_out" in {notice.code for notice in answer.warnings}


def test_liger_kernels_are_named_one_by_one_or_as_words() -> None:
    named = {"liger_kernel_config": "rope, swiglu"}
    whole = {"liger_kernel_config": {"rope": True, "rms_norm": False, "swiglu": True, "cross_entropy": False}}
    requests = [Request.parse({"model": LLAMA, "gpu": CARD, "training": training}) for training in (named, whole)]
    assert requests[0] == requests[1]


def test_a_liger_kernel_that_reads_all_logits_is_refused_beside_a_loss_that_makes_none() -> None:
    training = {"loss": "liger", "liger_kernel_config": {"cross_entropy": True}}
    with pytest.raises(InvalidRequestError) as caught:
        Request.parse({"model": LLAMA, "gpu": CARD, "training": training})
    assert "cross_entropy" in str(caught.value.problems)


def test_offloaded_activations_leave_the_card_and_wait_in_host_memory() -> None:
    training = {"max_length": 16_384}
    kept, offloaded = (
        plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": {**training, **more}}))
        for more in ({}, {"activation_offloading": True})
    )
    inputs_bytes = LLAMA["num_hidden_layers"] * 2 * 16_384 * LLAMA["hidden_size"]
    assert not offloaded.not_planned
    assert offloaded.host_bytes >= inputs_bytes > kept.host_bytes
    assert offloaded.peak.allocated_bytes < kept.peak.allocated_bytes


def test_offloading_without_checkpointing_is_planned_on_the_card_and_never_simply_does_not_fit() -> None:
    training = {"activation_offloading": True, "gradient_checkpointing": False, "max_length": 131_072}
    answer = plan(Request.parse({"model": LLAMA, "gpu": CARD, "stack": "trl", "training": training}))
    assert [item.key for item in answer.not_planned] == ["training.activation_offloading"]
    assert answer.verdict == "tight"
