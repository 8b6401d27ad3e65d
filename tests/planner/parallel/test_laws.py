"""What holds for every run on several cards, whatever the model."""

from typing import Any

import pytest

from planner import Plan, plan
from planner.request.schema import Request

SMALL = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1000, "hidden_size": 256,
    "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}  # fmt: skip


def answer(**changes: Any) -> Plan:
    document = {"model": SMALL, "gpu": "rtx-3090", "method": "full", "training": {"max_length": 256}, **changes}
    return plan(Request.parse(document))


def line_bytes(found: Plan, name: str) -> int:
    return sum(line.bytes for line in found.lines if line.name.startswith(name))


def in_the_step(found: Plan, name: str) -> int:
    return sum(line.bytes for line in found.lines if line.name.startswith(name) and "forward" in line.alive_in)


def test_several_cards_without_a_strategy_are_torchruns_default() -> None:
    assert answer(gpus=2).to_dict()["cards"] == {"count": 2, "strategy": "ddp", "worst_rank": 0, "each": None}


def test_ddp_holds_a_gradient_twice_unless_it_is_a_view_of_its_bucket() -> None:
    plain, views = answer(gpus=2), answer(gpus=2, ddp={"gradient_as_bucket_view": True})
    (gradients,) = (line.bytes for line in plain.lines if line.name == "gradients")
    assert plain.phases[-1].allocated_bytes - views.phases[-1].allocated_bytes == gradients
    assert line_bytes(views, "DDP gradient buckets") == line_bytes(plain, "DDP gradient buckets") == gradients


@pytest.mark.parametrize("strategy", [{"fsdp": True}, {"fsdp": "shard_grad_op"}, {"fsdp": "full_shard offload"}])
def test_more_cards_never_hold_more_each(strategy: dict[str, Any]) -> None:
    peaks = [answer(gpus=count, **strategy).peak_allocated_bytes for count in (2, 4, 8, 16)]
    assert peaks == sorted(peaks, reverse=True)


def test_shards_of_two_cards_are_half_of_each_tensor() -> None:
    shards = line_bytes(answer(gpus=2, fsdp=True), "weights: this card's shards")
    embedding, head, norms = 2 * 1000 * 256, 0, 9 * 256
    layers = 4 * (4 * 256 * 256 + 3 * 256 * 688)
    assert shards == 4 * (embedding + head + norms + layers) // 2


def test_what_is_offloaded_lies_on_the_host() -> None:
    on_cards, on_host = answer(gpus=2, fsdp=True), answer(gpus=2, fsdp="full_shard offload")
    assert on_host.peak_allocated_bytes < on_cards.peak_allocated_bytes
    assert on_host.host_bytes > line_bytes(on_cards, "weights: this card's shards")


def test_four_bit_values_are_cut_only_when_they_are_kept_as_floats() -> None:
    quantization = {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    }  # fmt: skip
    whole = answer(method="qlora", gpus=4, fsdp=True, quantization=quantization)
    cut = answer(method="qlora", gpus=4, fsdp=True, quantization=quantization | {"bnb_4bit_quant_storage": "bfloat16"})
    assert in_the_step(whole, "quantized weights") == line_bytes(answer(method="qlora"), "quantized weights")
    assert in_the_step(cut, "quantized weights") == 0
    assert line_bytes(cut, "quantized weights (nf4), before it is cut") > 0


def test_nccls_buffers_are_a_line_of_their_own_outside_torch() -> None:
    (line,) = (line for line in answer(gpus=2, fsdp=True).lines if line.name.startswith("NCCL"))
    assert (line.alive_in, line.evidence) == ((), "modelled")
    assert line_bytes(answer(), "NCCL") == 0


def test_a_strategy_that_no_dry_run_has_shown_never_simply_fits() -> None:
    shown, unshown = answer(gpus=2, fsdp=True), answer(gpus=2, fsdp="hybrid_shard")
    assert (shown.verdict, shown.not_planned) == ("fits", ())
    assert (unshown.verdict, [item.key for item in unshown.not_planned]) == ("tight", ["fsdp.hybrid_shard"])
    in_4bit = answer(method="qlora", gpus=2, fsdp=True)
    assert (in_4bit.verdict, in_4bit.not_planned) == ("fits", ())


@pytest.mark.parametrize("preset", ["zero1", "zero2", "zero3", "zero2-offload", "zero3-offload"])
def test_zero_may_fit(preset: str) -> None:
    found = answer(gpus=2, deepspeed=preset)
    assert (found.verdict, found.not_planned) == ("fits", ())


def test_offload_to_disk_and_stage_0_were_not_probed() -> None:
    for asked, field in (
        ({"stage": 0}, "deepspeed.stage"),
        ({"stage": 3, "offload_param": "nvme"}, "deepspeed.offload"),
    ):
        assert [item.key for item in answer(gpus=2, deepspeed=asked).not_planned] == [field]


def test_stage_3_without_gradient_checkpointing_was_not_probed() -> None:
    found = answer(gpus=2, deepspeed="zero3", training={"gradient_checkpointing": False})
    assert (found.verdict, [item.key for item in found.not_planned]) == ("tight", ["deepspeed.stage"])


def test_auto_is_filled_in_from_the_models_width() -> None:
    written = {"stage": 3, "reduce_bucket_size": "auto"}
    filled = {"stage": 3, "reduce_bucket_size": 256**2}
    assert answer(gpus=2, deepspeed=written).lines == answer(gpus=2, deepspeed=filled).lines


@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_each_stage_of_zero_holds_no_more_of_a_model_than_the_one_before(stage: str) -> None:
    stages = ["zero1", "zero2", "zero3"]
    held = [
        sum(
            line.bytes
            for line in answer(gpus=4, deepspeed=name).lines
            if "optimizer" in line.alive_in and line.cause != "workspace"
        )
        for name in stages[: stages.index(stage) + 1]
    ]
    assert held == sorted(held, reverse=True)


def test_zero_offloads_what_it_is_told_to() -> None:
    on_cards, on_host = answer(gpus=2, deepspeed="zero3"), answer(gpus=2, deepspeed="zero3-offload")
    assert on_host.host_bytes > 0
    assert on_host.peak_allocated_bytes < on_cards.peak_allocated_bytes


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("stack", ["trainer", "trl", "kbit", "loop"])
def test_zero_is_planned_on_every_stack_with_micro_batches_accumulated(stack: str, stage: int) -> None:
    """Each micro-batch runs forward through all layers: a step with two of them has each layer more than once."""
    zero = {"deepspeed": {"zero_optimization": {"stage": stage}}, "gpus": 2, "stack": stack}
    training = {"max_length": 256, "optim": "adamw_torch"}
    one = answer(training=training, **zero).peak_allocated_bytes
    assert answer(training={**training, "gradient_accumulation_steps": 2}, **zero).peak_allocated_bytes >= one


def test_fsdp1_cuts_an_adapter_of_a_tied_embedding_with_the_root_as_one_of_the_head() -> None:
    run = {"model": "Qwen/Qwen2.5-0.5B", "training": {}, "gpus": 2, "method": "qlora", "fsdp": {"version": 1}}
    embedding, head = (
        answer(**run, lora={"target_modules": ["q_proj", name]}).estimate.reserved_bytes()
        for name in ("embed_tokens", "lm_head")
    )
    assert embedding == head
