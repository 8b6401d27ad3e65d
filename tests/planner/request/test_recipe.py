"""What a preset and a quantization settle, where the stack itself decides."""

from typing import Any

import pytest

from planner.errors import InvalidRequestError
from planner.request.schema import CHAPTER_QUANTIZATION, Request
from tests.planner.tiny import recipe

HQQ = {"quant_method": "hqq"}


def test_trl_casts_the_adapters_of_bitsandbytes_models_only() -> None:
    assert recipe(stack="trl").adapter_dtype == "bfloat16"
    assert recipe(stack="trl", quantization={"load_in_8bit": True}).adapter_dtype == "bfloat16"
    assert recipe(stack="trl", quantization=HQQ).adapter_dtype == "float32"
    assert recipe(stack="trl", method="lora").adapter_dtype == "float32"


def test_only_four_bit_kernels_have_a_compute_dtype_of_their_own() -> None:
    assert recipe(quantization={"load_in_4bit": True}).compute_dtype == "float32"
    assert recipe(quantization={"load_in_8bit": True}).compute_dtype == "bfloat16"
    assert recipe(quantization=HQQ).compute_dtype == "bfloat16"


@pytest.mark.parametrize("pair", [{"load_in_4bit": True, "load_in_8bit": True}, {"load_in_4bit": True, **HQQ}])
def test_two_quantizations_at_once_are_a_contradiction(pair: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        Request.parse({"model": "a model", "gpu": "a card", "quantization": pair})
    assert "exclude each other" in refusal.value.problems[0].message


def test_preparation_needs_something_quantized() -> None:
    assert recipe(stack="kbit").kbit_preparation
    assert not recipe(stack="kbit", method="lora").kbit_preparation


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({}, {}),
        ({"bnb_4bit_compute_dtype": "float16"}, {"bnb_4bit_compute_dtype": "float16"}),
        ({"llm_int8_skip_modules": ["lm_head"]}, {"llm_int8_skip_modules": ("lm_head",)}),
        ({"bnb_4bit_use_double_quant": False}, {"bnb_4bit_use_double_quant": False}),
    ],
)
def test_a_quantization_that_names_no_kind_is_a_part_of_the_recipe(part: dict[str, Any], said: dict[str, Any]) -> None:
    assert recipe(quantization=part).quantization == CHAPTER_QUANTIZATION.model_copy(update=said)


def test_a_t4_user_states_the_compute_dtype_alone() -> None:
    settled = recipe(quantization={"bnb_4bit_compute_dtype": "float16"})
    assert (settled.compute_dtype, settled.autocast, settled.model_dtype) == ("float16", "float16", "float16")


def test_lora_on_an_int8_base_is_planned_as_such() -> None:
    assert recipe(method="lora", quantization={"load_in_8bit": True}) == recipe(quantization={"load_in_8bit": True})
