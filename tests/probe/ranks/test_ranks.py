"""A request on several cards, dry-run: each rank a process with a virtual card of its own; the worst one decides."""

import pytest

from planner.errors import InvalidRequestError
from planner.measurement import Measurement
from planner.probe.ranks.host_memory import CEILING_VARIABLE, refuse_without_host_memory
from planner.request.schema import Request
from tests.probe.tiny import allocated, on_card, request

# Weights large enough that the allocator's rounding is a small part of their shards.
WIDE = {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 8192, "tie_word_embeddings": False}
FULL = {"method": "full", "stack": "loop", "config": WIDE}
OFFLOADED = {"cpu_offload": True}


@pytest.fixture(scope="module")
def alone() -> Measurement:
    return on_card(request(**FULL))


def resident(measurement: Measurement, phase: str) -> int:
    return next(reading.resident_bytes for reading in measurement.phases if reading.name == phase)


def test_fsdp_leaves_each_rank_half_of_the_weights(alone: Measurement) -> None:
    measurement = on_card(request(**FULL, gpus=2, fsdp={}))
    assert measurement.outcome == "ok"
    assert [rank.rank for rank in measurement.ranks] == [0, 1]
    assert resident(measurement, "prepare") == pytest.approx(resident(alone, "prepare") / 2, rel=0.02)
    assert measurement.peak_allocated_bytes < alone.peak_allocated_bytes
    assert measurement.peak_allocated_bytes == max(rank.peak_allocated_bytes for rank in measurement.ranks)


def test_ddp_keeps_all_of_the_model_and_buckets_beside_it(alone: Measurement) -> None:
    measurement = on_card(request(**FULL, gpus=2))
    assert allocated(measurement)["load"] == allocated(alone)["load"]
    assert resident(measurement, "prepare") > resident(alone, "prepare")


def test_ddp_adds_the_same_to_the_second_step_as_to_the_first(alone: Measurement) -> None:
    """The buckets of the first step are gone when those in their place are made (reducer.cpp, rebuild_buckets)."""
    one, two = allocated(alone), allocated(on_card(request(**FULL, gpus=2)))
    first_bytes = two["first_backward"] - one["first_backward"]
    assert two["backward"] - one["backward"] == pytest.approx(first_bytes, rel=0.01)


def test_offloaded_shards_lie_in_pinned_host_memory() -> None:
    measurement = on_card(request(**FULL, gpus=2, fsdp=OFFLOADED))
    assert resident(measurement, "prepare") < 1 << 20
    assert all(rank.pinned_bytes > 0 for rank in measurement.ranks)


def test_fsdp1_runs_too() -> None:
    measurement = on_card(request(**FULL, gpus=2, fsdp={"version": 1}), ranks=1)
    assert (measurement.outcome, len(measurement.ranks)) == ("ok", 1)


@pytest.mark.parametrize("version", [1, 2])
def test_four_bit_weights_are_whole_on_each_card_until_they_are_cut(version: int) -> None:
    quantization = {"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16", "bnb_4bit_compute_dtype": "bfloat16"}
    asked = request(**FULL | {"method": "qlora"}, quantization=quantization, gpus=2, fsdp={"version": version})
    measurement = on_card(asked, ranks=1)
    assert measurement.outcome == "ok"
    assert resident(measurement, "prepare") < 0.6 * resident(measurement, "load")


def test_a_model_over_several_cards_is_one_process_and_each_card_is_read(alone: Measurement) -> None:
    measurement = on_card(request(**FULL, gpus=2, device_map="auto"))
    first, second = measurement.ranks
    assert (first.rank, second.rank, measurement.outcome) == (0, 1, "ok")
    assert measurement.peak_allocated_bytes == max(first.peak_allocated_bytes, second.peak_allocated_bytes)
    assert measurement.peak_allocated_bytes < alone.peak_allocated_bytes
    assert first.peak_allocated_bytes + second.peak_allocated_bytes > alone.peak_allocated_bytes


def test_the_card_that_is_full_is_named() -> None:
    many = {"training": {"max_length": 2048, "per_device_train_batch_size": 64, "gradient_checkpointing": False}}
    measurement = on_card(request(**FULL, **many, gpus=2, device_map="auto"), memory_limit_bytes=2 << 30)
    assert measurement.outcome == "out_of_memory"
    assert [rank.failed_phase for rank in measurement.ranks].count(measurement.failed_phase) == 1


def test_without_deepspeed_a_probe_says_how_to_install_it() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        on_card(request(**FULL, gpus=2, deepspeed={"stage": 2}))
    (problem,) = refused.value.problems
    assert problem.field == "deepspeed"
    assert "pip install --no-build-isolation --no-deps deepspeed==" in problem.message


def test_what_deepspeed_offloads_is_asked_for_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CEILING_VARIABLE, "1000000")
    with pytest.raises(InvalidRequestError) as refused:
        refuse_without_host_memory(request(**FULL, gpus=2, deepspeed="zero3-offload"))
    assert [problem.field for problem in refused.value.problems] == ["deepspeed.offload_optimizer"]


def test_of_a_large_world_the_first_ranks_run_and_the_answer_says_so() -> None:
    measurement = on_card(request(**FULL, gpus=64, fsdp={"hybrid_shard": True}), ranks=1)
    assert [rank.rank for rank in measurement.ranks] == [0]
    assert any("the first 1 of 64 ranks ran" in note for note in measurement.notes)


def test_a_rank_that_runs_out_of_memory_is_the_answer() -> None:
    many = {"training": {"max_length": 2048, "per_device_train_batch_size": 64, "gradient_checkpointing": False}}
    measurement = on_card(request(**FULL, **many, gpus=2, fsdp={}), memory_limit_bytes=2 << 30, ranks=1)
    assert measurement.outcome == "out_of_memory"
    (rank,) = measurement.ranks
    assert (rank.outcome, rank.failed_phase) == ("out_of_memory", measurement.failed_phase)


def test_what_a_rank_keeps_on_the_host_is_asked_for_before_anything_is_loaded() -> None:
    asked = Request.parse(
        {"model": "meta-llama/Llama-3.1-405B", "gpu": "rtx-3090", "gpus": 2, "method": "full", "fsdp": OFFLOADED,
         "training": {"optim": "adamw_torch_fused"}}
    )  # fmt: skip
    with pytest.raises(InvalidRequestError, match="too little memory") as refused:
        on_card(asked)
    (problem,) = refused.value.problems
    assert problem.field == "fsdp.cpu_offload"
    assert "in host memory, in a dry run too" in problem.message


def test_a_server_allows_less_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CEILING_VARIABLE, "1000000")
    with pytest.raises(InvalidRequestError) as refused:
        refuse_without_host_memory(request(**FULL, gpus=2, fsdp=OFFLOADED))
    (problem,) = refused.value.problems
    assert "is what a probe may take here (FITPROOF_PROBE_MEMORY_BYTES)" in problem.message


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"deepspeed": {"stage": 3, "offload_param": {"device": "nvme"}}, "method": "full"}, "deepspeed"),
        ({"deepspeed": {"stage": 3}, "method": "qlora"}, "quantization"),
        ({"device_map": "auto", "method": "lora", "stack": "trl"}, "training.loss"),
        ({"fsdp": {}, "method": "qlora", "quantization": {"load_in_8bit": True}}, "quantization"),
        ({"fsdp": {"version": 1}, "method": "qlora"}, "quantization.bnb_4bit_quant_storage"),
        ({"fsdp": {}, "method": "lora", "training": {"optim": "adamw_8bit"}}, "training.optim"),
        ({"method": "lora", "training": {"objective": "dpo"}}, "training.objective"),
    ],
)
def test_what_no_probe_plays_is_refused_with_the_fix(parts: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        on_card(request(gpus=2, **parts))
    assert field in [problem.field for problem in refused.value.problems]
