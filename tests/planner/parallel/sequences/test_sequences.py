"""Sequences cut over cards: what is divided, what is not, what is refused; and the formulas beside dry runs."""

import json
from typing import Any

import pytest

from planner import plan
from planner.answer.plan import Plan
from planner.errors import FitproofError, InvalidRequestError
from planner.request.schema import Request
from tests.planner.parallel.sequences.record import FILE, SETTINGS

ROWS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
LLAMA: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B", "gpu": "h100-sxm-80gb", "gpus": 4, "method": "full", "fsdp": "full_shard",
    "training": {"max_length": 32768, "optim": "adamw_torch_fused"},
}  # fmt: skip


def planned(**changes: Any) -> Plan:
    return plan(Request.parse({**LLAMA, **changes}))


def problem_of(**changes: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequestError) as refused:
        Request.parse({**LLAMA, **changes})
    (problem,) = refused.value.problems
    return problem.field, problem.message


def line_bytes(found: Plan, name: str, phase: str) -> int:
    return sum(line.bytes for line in found.ledger.lines if name in line.name and phase in line.alive_in)


def test_every_setting_is_on_record() -> None:
    assert [row["name"] for row in ROWS] == [name for name, _, _ in SETTINGS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["name"]))
def test_the_peak_is_that_of_the_dry_run(row: dict[str, Any]) -> None:
    ours = max(phase.allocated_bytes for phase in plan(Request.parse(row["request"])).phases)
    worst = max(row["peaks"].values())
    assert ours == pytest.approx(worst, rel=0.001)


def test_each_card_has_its_part_of_the_tokens_and_the_shards_of_all() -> None:
    whole, cut = planned(), planned(parallelism_config={"cp_size": 4})
    assert line_bytes(cut, "logits", "loss") == pytest.approx(line_bytes(whole, "logits", "loss") / 4, rel=0.001)
    assert line_bytes(cut, "shards", "optimizer") == line_bytes(whole, "shards", "optimizer")
    assert line_bytes(cut, "optimizer state", "optimizer") == line_bytes(whole, "optimizer state", "optimizer")


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"parallelism_config": {"cp_size": 4}}, "ring attention"),
        ({"parallelism_config": {"sp_size": 4}, "fsdp": None, "deepspeed": "zero3"}, "Ulysses"),
    ],
)
def test_what_attention_holds_of_other_parts_is_a_line(asked: dict[str, Any], line: str) -> None:
    # A vocabulary so small that attention is the largest moment of the backward pass.
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SETTINGS[2][2]["model"]}
    found = planned(model={**config, "intermediate_size": 512}, **asked)
    assert line_bytes(found, line, "backward") > 0


@pytest.mark.parametrize(("gpu", "verdict"), [("b200", "tight"), ("rtx-4090", "does_not_fit")])
def test_what_the_probe_does_not_play_never_simply_fits(gpu: str, verdict: str) -> None:
    found = planned(gpu=gpu, parallelism_config={"cp_size": 4})
    assert found.verdict == verdict
    assert "parallelism_config.cp_size" in {item.key for item in found.not_planned}


@pytest.mark.parametrize(
    "written",
    [
        {"training": {**LLAMA["training"], "parallelism_config": {"cp_size": 2}}},
        {"parallelism_config": {"parallelism_config_cp_size": 2, "parallelism_config_dp_shard_size": 2}},
    ],
)
def test_training_arguments_and_accelerates_file_say_the_same(written: dict[str, Any]) -> None:
    assert planned(**written).phases == planned(parallelism_config={"cp_size": 2}).phases


def test_deepspeeds_own_word_is_accelerates_sp_size() -> None:
    own = {"zero_optimization": {"stage": 3}, "sequence_parallel_size": 4}
    read = Request.parse({**LLAMA, "fsdp": None, "deepspeed": own})
    assert read.parallelism_config is not None
    assert read.parallelism_config.sp_size == 4


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"parallelism_config": {"cp_size": 3}}, "parallelism_config.cp_size", "a multiple of 3"),
        ({"parallelism_config": {"cp_size": 2, "dp_shard_size": 4}}, "parallelism_config.cp_size", "do not make 4"),
        ({"parallelism_config": {"cp_size": 2}, "fsdp": None}, "parallelism_config.cp_size", "write fsdp"),
        ({"parallelism_config": {"sp_size": 2}}, "parallelism_config.sp_size", "write deepspeed"),
        ({"parallelism_config": {"tp_size": 2}}, "parallelism_config.tp_size", "fitproof dry-run"),
        ({"parallelism_config": {"cp_size": 2, "sp_size": 2}}, "parallelism_config.sp_size", "keep one"),
        (
            {"parallelism_config": {"cp_size": 2}, "training": {"attn_implementation": "eager"}},
            "training.attn_implementation", "sdpa",
        ),
        (
            {"parallelism_config": {"cp_size": 2}, "training": {"packing": True}},
            "parallelism_config.cp_size", "packing",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_named_with_the_fix(changes: dict[str, Any], field: str, words: str) -> None:
    named, message = problem_of(**changes)
    assert named == field
    assert words in message


@pytest.mark.parametrize("model", ["google/gemma-2-9b", "deepseek-ai/DeepSeek-V2-Lite", "bigscience/bloom-7b1"])
def test_attention_that_is_not_plainly_causal_is_refused(model: str) -> None:
    with pytest.raises(FitproofError, match="context parallelism of layers"):
        planned(model=model, parallelism_config={"cp_size": 4})
