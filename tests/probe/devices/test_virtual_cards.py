"""The CUDA path end to end on virtual cards: the installed stack, unchanged, from loading to saving."""

from typing import Any

import pytest

from planner.errors import InvalidRequestError
from planner.measurement import Measurement
from planner.units import GIB, MIB
from tests.probe.tiny import A_4090, allocated, on_card, request

STEP = ["forward", "loss", "backward", "optimizer"]
PHASES = ["load", "prepare", *(f"first_{name}" for name in STEP), *STEP, "save"]
CARDS = ["t4", "rtx-3090", "rtx-4090", "h100-sxm-80gb", "rtx-5090"]
# Wide enough that its optimizer states are paged and its weights are not all in the smallest blocks.
WIDE = {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 8192}


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("stack", ["trainer", "trl", "kbit", "loop"])
def test_every_stack_loads_trains_and_saves_on_every_generation(card: str, stack: str) -> None:
    half = "float16" if card == "t4" else "bfloat16"
    quantization = {"load_in_4bit": True, "bnb_4bit_compute_dtype": half if stack != "trl" else "bfloat16"}
    # TRL's fused head multiplies bfloat16 into float32, which torch refuses below compute capability 8.0.
    training = {"loss": "full_logits"} if (card, stack) == ("t4", "trl") else {}
    measurement = on_card(request(gpu=card, stack=stack, quantization=quantization, training=training))
    assert measurement.outcome == "ok"
    assert measurement.instrument == "dry-run"
    assert [phase.name for phase in measurement.phases] == PHASES
    assert measurement.device.total_memory_bytes is not None
    assert measurement.peak_reserved_bytes is not None
    assert 0 < measurement.peak_allocated_bytes <= measurement.peak_reserved_bytes
    assert measurement.process_bytes == measurement.peak_reserved_bytes + (measurement.context_bytes or 0)


@pytest.mark.parametrize(
    "model", ["gpt2", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "mixtral", "qwen3_moe", "gpt_oss"]
)
def test_every_kind_of_model_runs(model: str) -> None:
    assert on_card(request(model)).outcome == "ok"


@pytest.mark.parametrize(
    "parts",
    [
        {"quantization": {"load_in_8bit": True}},
        {"quantization": {"quant_method": "hqq"}},
        {"lora": {"r": 8, "use_dora": True, "lora_dropout": 0.1}},
        {"method": "lora"},
        {"method": "full"},
        {"training": {"loss": "liger"}},
        {"training": {"loss": "chunked"}, "stack": "trl"},
        {"training": {"padded": True}},
        {"training": {"gradient_checkpointing": False, "gradient_accumulation_steps": 2}},
        {"training": {"use_reentrant": True, "attn_implementation": "eager"}},
        {"training": {"optim": "adafactor", "max_grad_norm": 0.0}},
        {"quantization": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}},
    ],
    ids=[
        "int8", "hqq", "dora", "lora", "full", "liger", "chunked", "padded", "accumulated", "reentrant", "adafactor",
        "float16",
    ],
)  # fmt: skip
def test_every_way_of_training_runs(parts: dict[str, Any]) -> None:
    assert on_card(request(**parts)).outcome == "ok"


def test_large_states_of_a_paged_optimizer_are_managed_memory_that_torch_does_not_count() -> None:
    states = {"optim": "paged_adamw_32bit"}, {"optim": "adamw_torch"}
    paged, plain = (on_card(request(config=WIDE, method="full", training=training)) for training in states)
    assert paged.managed_bytes is not None
    assert paged.managed_bytes > plain.managed_bytes == 0
    assert paged.peak_allocated_bytes < plain.peak_allocated_bytes


def test_two_runs_of_one_request_read_the_same() -> None:
    first, second = (on_card(request("mixtral", config=WIDE)) for _ in range(2))
    assert allocated(first) == allocated(second)
    assert first.peak_reserved_bytes == second.peak_reserved_bytes


def test_expandable_segments_reach_torchs_allocator() -> None:
    plain, expandable = (
        on_card(request(config=WIDE, training={"max_length": 256, "expandable_segments": said}))
        for said in (False, True)
    )
    assert expandable.peak_reserved_bytes != plain.peak_reserved_bytes
    assert any("expandable_segments:True" in note for note in expandable.notes)


def test_skewed_routing_takes_no_less_than_even_routing() -> None:
    asked = request("qwen3_moe", config=WIDE | {"moe_intermediate_size": 512}, training={"max_length": 256})
    even, skewed = (on_card(asked, routing=kind) for kind in ("even", "skewed"))
    assert skewed.peak_allocated_bytes >= even.peak_allocated_bytes
    assert "made up, skewed" in " ".join(skewed.notes)


def capped(limit_bytes: int, **parts: Any) -> Measurement:
    return on_card(request(config=WIDE, **parts), memory_limit_bytes=limit_bytes)


@pytest.mark.parametrize(
    ("parts", "phase"),
    [
        ({"config": {"hidden_size": 4096, "vocab_size": 64000}, "method": "lora"}, "load"),
        ({"training": {"max_length": 4096, "attn_implementation": "eager"}}, "first_forward"),
        ({"config": {"vocab_size": 128_000}, "training": {"max_length": 1024, "loss": "full_logits"}}, "first_loss"),
        ({"method": "full", "config": WIDE, "training": {"optim": "adamw_torch"}}, "first_optimizer"),
    ],
    ids=["load", "forward", "loss", "optimizer"],
)
def test_memory_that_runs_out_is_an_answer_in_torchs_own_words(parts: dict[str, Any], phase: str) -> None:
    whole = on_card(request(**parts))
    assert whole.context_bytes is not None
    before = (
        max(read.peak_reserved_bytes or 0 for read in whole.phases[: PHASES.index(phase)] or whole.phases[:0])
        if (phase != "load")
        else 64 * MIB
    )
    measurement = on_card(request(**parts), memory_limit_bytes=whole.context_bytes + before + 2 * MIB)
    assert measurement.outcome == "out_of_memory"
    assert measurement.failed_phase == phase
    assert measurement.short_bytes
    assert any("CUDA out of memory. Tried to allocate" in note for note in measurement.notes)


def test_the_smallest_card_is_found_and_survives_where_one_step_less_does_not() -> None:
    asked = request(config=WIDE, training={"max_length": 2048, "attn_implementation": "eager"})
    found = on_card(asked, find_smallest=True).smallest_capacity_bytes
    assert found is not None
    assert on_card(asked, memory_limit_bytes=found).outcome == "ok"
    assert on_card(asked, memory_limit_bytes=found - 64 * MIB).outcome == "out_of_memory"


@pytest.mark.parametrize(("limit_bytes", "words"), [(48 * GIB, "at most 23.99 GiB"), (128 * MIB, "CUDA context")])
def test_a_limit_that_no_such_card_has_is_refused(limit_bytes: int, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        on_card(request(), memory_limit_bytes=limit_bytes)
    assert words in refusal.value.problems[0].message


def test_a_card_that_torchs_build_has_no_kernels_for_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        on_card(request(gpu=A_4090 | {"compute_capability": "7.0"}))
    assert "7.5 and newer" in refusal.value.problems[0].message


def test_a_model_larger_than_host_memory_takes_no_host_memory() -> None:
    deep = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 4,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128_256}  # fmt: skip
    measurement = on_card(request(gpu="h100-sxm-80gb", model="llama", config=deep, method="lora"))
    assert measurement.outcome == "ok"
    assert measurement.phases[0].resident_bytes > 9 * GIB
