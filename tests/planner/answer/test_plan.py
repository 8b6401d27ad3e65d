import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import Request, plan
from planner.answer.plan import plan_on_cards
from planner.answer.reach.limits import limits
from planner.catalog import find_gpu
from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog
from planner.errors import InvalidRequestError, UnknownArchitectureError
from planner.ledger import PHASES
from planner.model.model import resolve_model

MODELS = ("meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-0.5B", "mistralai/Mistral-7B-Instruct-v0.2", "Qwen/Qwen3-0.6B")
STACKS = ("trainer", "trl", "kbit", "loop")


def asked(**fields: object) -> Request:
    return Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090", **fields})


def trained(**training: object) -> Request:
    return asked(training=training)


REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "gpu": st.just("rtx-4090"),
        "stack": st.sampled_from(STACKS),
        "lora": st.fixed_dictionaries(
            {"r": st.integers(1, 256), "target_modules": st.sampled_from(["all-linear", ["q_proj", "v_proj"]])}
        ),
        "training": st.fixed_dictionaries(
            {
                "per_device_train_batch_size": st.integers(1, 8),
                "gradient_accumulation_steps": st.integers(1, 4),
                "max_length": st.integers(1, 4096),
                "optim": st.sampled_from(["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd"]),
            }
        ),
    }
).map(Request.parse)


def test_llama_2_7b_fits_on_a_4090_with_every_byte_accounted_for() -> None:
    answer = plan(asked())
    assert answer.verdict == "fits"
    assert answer.headroom_bytes == answer.usable_bytes - answer.required_bytes.likely > 0
    peak = sum(line.bytes for line in answer.lines if answer.peak_phase in line.alive_in)
    assert answer.peak_allocated_bytes == peak


def test_the_document_is_the_public_contract() -> None:
    document = plan(asked()).to_dict()
    assert list(document) == [
        "verdict", "peak_allocated_bytes", "peak_phase", "required_bytes", "usable_bytes", "headroom_bytes",
        "paged_bytes", "host_bytes", "cards", "phases", "lines", "recorded", "textbook", "throughput", "not_planned",
        "warnings", "advice", "versions", "request", "model", "gpu",
    ]  # fmt: skip
    assert [phase["name"] for phase in document["phases"]] == list(PHASES)
    assert document["request"]["quantization"]["bnb_4bit_quant_type"] == "nf4"
    assert all({"formula", "evidence", "source", "alive_in"} <= set(line) for line in document["lines"])


@given(REQUESTS)
@settings(max_examples=40, deadline=None)
def test_phases_and_lines_add_up_and_the_document_survives_json(request: Request) -> None:
    answer = plan(request)
    for phase in answer.phases:
        assert phase.allocated_bytes == sum(line.bytes for line in answer.lines if phase.name in line.alive_in)
    assert answer.peak_allocated_bytes == max(phase.allocated_bytes for phase in answer.phases)
    document = answer.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert plan(Request.parse(document["request"])).to_dict() == document


@given(REQUESTS)
@settings(max_examples=40, deadline=None)
def test_every_peak_is_at_least_the_static_bytes(request: Request) -> None:
    answer = plan(request)
    static = sum(line.bytes for line in answer.lines if {"forward", "loss", "backward"} <= set(line.alive_in))
    assert answer.peak_allocated_bytes >= static > 0


# The memory-efficient backward keeps dk and dv in float32 for 200 splits of 64 keys at most, and for one split of each
# sequence's heads: as sequences are added, splits become fewer (planner/memory/workspace.py). Heads to 256 columns.
SPLIT_BYTES = 200 * 64 * 256 * 2 * 4


@given(REQUESTS, st.sampled_from(["lora.r", "training.per_device_train_batch_size", "training.max_length"]))
@settings(max_examples=60, deadline=None)
def test_more_of_anything_never_costs_less_but_for_a_kernels_workspace(request: Request, path: str) -> None:
    section, field = path.split(".")
    part = getattr(request, section)
    more = request.model_copy(update={section: part.model_copy(update={field: getattr(part, field) + 7})})
    assert plan(more).peak_allocated_bytes >= plan(request).peak_allocated_bytes - SPLIT_BYTES


@given(st.integers(1, 6), st.sampled_from(STACKS))
@settings(max_examples=12, deadline=None)
def test_more_layers_never_cost_less(layers: int, stack: str) -> None:
    def peak_bytes(count: int) -> int:
        config = {**resolve_model("meta-llama/Llama-2-7b-hf").config, "num_hidden_layers": count}
        return plan(asked(model=config, stack=stack)).peak_allocated_bytes

    assert peak_bytes(layers + 1) >= peak_bytes(layers)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stack", STACKS)
def test_double_quantization_never_costs_more(model: str, stack: str) -> None:
    quantization = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    single, double = (
        plan(asked(model=model, stack=stack, quantization={**quantization, "bnb_4bit_use_double_quant": flag}))
        for flag in (False, True)
    )
    held = [
        [line.bytes for line in p.lines if line.cause == "weights" and len(line.alive_in) > 4] for p in (single, double)
    ]
    assert sum(held[1]) <= sum(held[0])


@pytest.mark.parametrize("phase", ["forward", "loss", "backward", "optimizer"])
def test_accumulated_gradients_are_counted_once_in_every_phase(phase: str) -> None:
    answer = plan(trained(gradient_accumulation_steps=4))
    names = {"gradients", "gradients of trained weights"}
    held_bytes = sum(line.bytes for line in answer.lines if line.name in names and phase in line.alive_in)
    assert held_bytes == sum(line.bytes for line in answer.lines if line.name == "LoRA matrices")


def test_paged_state_is_reported_apart_from_the_card() -> None:
    paged, plain = plan(trained(optim="paged_adamw_32bit")), plan(trained(optim="adamw_torch_fused"))
    assert paged.paged_bytes > 0
    assert plain.paged_bytes == 0
    assert paged.peak_allocated_bytes < plain.peak_allocated_bytes


def test_all_cards_in_one_go_give_what_each_gives_alone() -> None:
    gpus = [find_gpu(name) for name in ("rtx-3090", "rtx-4090", "h100-sxm-80gb")]
    together = plan_on_cards(asked(), gpus)
    alone = [plan(asked(gpu=gpu.id)) for gpu in gpus]
    assert [p.to_dict() for p in together] == [p.to_dict() for p in alone]


def test_an_architecture_nobody_described_names_the_dry_run() -> None:
    with pytest.raises(UnknownArchitectureError, match="dry run"):
        plan(asked(model={"model_type": "mamba2", "hidden_size": 64}))


@pytest.mark.parametrize(("gpu", "verdict"), [("h200", "tight"), ("rtx-4090", "does_not_fit")])
def test_a_catalogue_model_whose_layers_nobody_described_is_answered_by_what_is_certain(gpu: str, verdict: str) -> None:
    answer = plan(asked(model="ai21labs/Jamba-v0.1", gpu=gpu))
    assert answer.verdict == verdict
    assert [item.key for item in answer.not_planned] == ["model"]
    assert "dry run" in answer.not_planned[0].why
    assert "activations" not in {line.cause for line in answer.lines}
    assert answer.advice == ()
    assert answer.to_dict()["not_planned"][0]["key"] == "model"


def test_no_limit_is_named_without_a_step() -> None:
    with pytest.raises(UnknownArchitectureError, match="jamba"):
        limits(asked(model="ai21labs/Jamba-v0.1", gpu="h200"))


def test_the_default_answer_of_every_catalogue_model_is_an_answer() -> None:
    verdicts = {row_id: plan(asked(model=row_id, gpu="h200")).verdict for row_id in model_catalog().rows}
    assert len(verdicts) >= 240
    assert set(verdicts.values()) <= {"fits", "tight", "does_not_fit"}


def test_targets_that_match_nothing_list_what_would() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        plan(asked(lora={"target_modules": ["query_key_value"]}))
    assert "q_proj" in refusal.value.problems[0].message


def test_every_card_of_the_catalogue_can_be_planned_on() -> None:
    gpus = [card.gpu for card in gpu_catalog().cards.values() if card.gpu]
    verdicts = {p.verdict for p in plan_on_cards(trained(max_length=4096), gpus)}
    assert {"fits", "does_not_fit"} <= verdicts


@pytest.mark.parametrize("model", ["bigscience/bloom", "bigscience/bloom-7b1"])
def test_no_line_is_negative_where_embeddings_are_normalised(model: str) -> None:
    for method in ("qlora", "full"):
        answer = plan(Request.parse({"model": model, "gpu": "h200", "method": method, "stack": "trl"}))
        assert all(line.bytes > 0 for line in answer.lines)


def test_the_same_request_has_the_same_answer_in_every_process() -> None:
    # A set of strings is walked in another order in each process; Mixtral's adapters once were.
    request = json.dumps({"model": "mistralai/Mixtral-8x7B-v0.1", "gpu": "a100-sxm-80gb", "stack": "loop"})
    program = f"from planner import Request, plan; print(plan(Request.parse({request})).to_dict())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1


def test_a_model_and_an_autocast_of_different_16_bit_types_are_planned_on_one_card_and_named_on_several() -> None:
    stack = {"model_dtype": "bfloat16", "autocast": "float16"}
    request = {"model": "Qwen/Qwen3-0.6B", "gpu": "rtx-4090", "method": "lora", "stack": stack}
    alone = plan(Request.parse(request))
    assert (alone.verdict, list(alone.not_planned)) == ("fits", [])
    several = plan(Request.parse({**request, "gpus": 2}))
    assert several.verdict == "tight"
    assert [item.key for item in several.not_planned] == ["stack.autocast"]
