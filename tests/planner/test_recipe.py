"""What a preset and a quantization settle, where the stack itself decides."""

import pytest

from planner.errors import InvalidRequestError
from planner.request import Request
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
