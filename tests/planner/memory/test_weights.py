"""Totals here equal the sum over every storage of the same model loaded by transformers 5.23 on CPU."""

from dataclasses import replace
from typing import Any

import pytest

from planner.errors import InvalidRequestError
from planner.ledger import Ledger
from planner.memory.weights import weight_lines
from planner.request.recipe import Recipe
from planner.tensors.inventory import Census
from planner.tensors.tensor_storage import place
from tests.planner.tiny import GPT2, LLAMA, MIXTRAL, group, recipe

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
       "bnb_4bit_compute_dtype": "bfloat16"}  # fmt: skip
FP4 = {"load_in_4bit": True}
INT8 = {"load_in_8bit": True}
ROTARY_BYTES = 2 * 512
QMAP_BYTES = 1_024


def phases(census: Census, run: Recipe) -> dict[str, int]:
    ledger = Ledger.of(weight_lines(place(census, run), run, adapters_bytes=0))
    return {phase.name: phase.allocated_bytes for phase in ledger.phases()}


@pytest.mark.parametrize(
    ("quantization", "loaded_bytes"),
    [(NF4, 1_812_992 - ROTARY_BYTES + QMAP_BYTES), (FP4, 1_851_904 - ROTARY_BYTES)],
)
def test_a_quantized_llama_weighs_what_the_loaded_one_does(quantization: dict[str, Any], loaded_bytes: int) -> None:
    assert phases(LLAMA, recipe(quantization=quantization))["forward"] == loaded_bytes


def test_a_skip_list_replaces_the_automatic_one_so_the_head_is_quantized() -> None:
    run = recipe(quantization={**FP4, "llm_int8_skip_modules": ["q_proj"]})
    assert phases(LLAMA, run)["forward"] == 1_672_192 - ROTARY_BYTES
    quantized = {placed.group.name for placed in place(LLAMA, run) if placed.quantized}
    assert "lm_head.weight" in quantized
    assert "model.layers.*.self_attn.q_proj.weight" not in quantized


def test_a_skip_list_can_name_one_layer() -> None:
    run = recipe(quantization={**FP4, "llm_int8_skip_modules": ["lm_head", "model.layers.1"]})
    down = [placed for placed in place(LLAMA, run) if "down_proj" in placed.group.name]
    assert sorted((placed.count, placed.quantized) for placed in down) == [(1, False), (1, True)]


def test_stacked_experts_stay_in_sixteen_bit() -> None:
    run = recipe(quantization=NF4)
    experts = [placed for placed in place(MIXTRAL, run) if placed.group.role == "expert"]
    assert not any(placed.quantized for placed in experts)
    assert sum(p.loaded.total_bytes * p.count for p in experts) == 2 * 2 * 4 * (1376 * 256 + 256 * 688)


def test_int8_scales_follow_the_output_rows_of_a_transposed_weight() -> None:
    by_name = {placed.group.name: placed for placed in place(GPT2, recipe(quantization=INT8))}
    assert by_name["transformer.h.*.attn.c_attn.weight"].loaded.statistics_bytes == 4 * 384
    assert by_name["transformer.h.*.mlp.c_proj.weight"].loaded.statistics_bytes == 4 * 128


def test_kbit_preparation_turns_everything_plain_into_float32() -> None:
    before = phases(MIXTRAL, recipe(quantization=NF4))["forward"]
    prepared = phases(MIXTRAL, recipe(quantization=NF4, stack="kbit"))
    plain_params = 2 * 1000 * 256 + 2 * 4 * 3 * 688 * 256 + 2 * 4 * 256 + 5 * 256
    assert prepared["forward"] == before + 2 * plain_params
    assert prepared["load"] < prepared["forward"]


def test_the_last_upcast_keeps_its_original_for_a_moment() -> None:
    prepared = phases(LLAMA, recipe(quantization=NF4, stack="kbit"))
    assert prepared["prepare"] == prepared["forward"] + 2 * 1000 * 256


def test_preparation_leaves_an_hqq_model_alone() -> None:
    hqq = {"quant_method": "hqq"}
    plain, prepared = (phases(LLAMA, recipe(quantization=hqq, stack=stack)) for stack in ("trainer", "kbit"))
    assert plain == prepared


def test_hqq_refuses_weights_that_do_not_divide_into_groups() -> None:
    odd = (group("model.layers.*.mlp.up_proj.weight", "linear", (3, 32), quantizable=True),)
    assert place(odd, recipe(quantization={"quant_method": "hqq", "group_size": 32}))
    with pytest.raises(InvalidRequestError) as refusal:
        place(odd, recipe(quantization={"quant_method": "hqq", "group_size": 64}))
    assert refusal.value.problems[0].field == "quantization.group_size"


def test_the_loader_holds_the_source_of_the_weight_it_quantizes() -> None:
    loading = phases(LLAMA, recipe(quantization=FP4))
    extra_bytes = loading["load"] - loading["forward"]
    assert 0 < extra_bytes <= 2 * 256 * 688


def test_modules_kept_in_float32_are() -> None:
    kept = (LLAMA[0], replace(LLAMA[-2], keeps_float32=True))
    assert phases(kept, recipe(method="lora"))["forward"] == 2 * 1000 * 256 + 4 * 256


@pytest.mark.parametrize("stack", ["trainer", "trl", "kbit", "loop"])
def test_lines_add_up_to_the_placed_tensors(stack: str) -> None:
    run = recipe(quantization=NF4, stack=stack)
    placed = place(LLAMA, run)
    total_bytes = sum(p.prepared.total_bytes * p.count for p in placed) + QMAP_BYTES
    assert phases(LLAMA, run)["backward"] == total_bytes
