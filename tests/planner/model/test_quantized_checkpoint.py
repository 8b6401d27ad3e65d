"""A config.json that says how its weights are stored is planned that way, or refused under the name it uses."""

from typing import Any

import pytest

from planner.answer.plan import Plan, plan
from planner.errors import InvalidRequestError
from planner.model.model import resolve_model
from planner.request.schema import Request

LLAMA_3 = dict(resolve_model("meta-llama/Meta-Llama-3-8B").config)
NF4 = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "torch.bfloat16", "bnb_4bit_quant_storage": "uint8",
}  # fmt: skip
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
GIB = 1 << 30


def planned(stored: Any, gpu: str = "rtx-4090", config: dict[str, Any] = LLAMA_3, **request: Any) -> Plan:
    return plan(Request.parse({"model": {**config, "quantization_config": stored}, "gpu": gpu, **request}))


def refusal(stored: Any, **request: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as error:
        planned(stored, **request)
    return {problem.field: problem.message for problem in error.value.problems}


def weights_gib(answer: Plan) -> float:
    return round(
        sum(line.bytes for line in answer.lines if line.cause == "weights" and "forward" in line.alive_in) / GIB, 2
    )


@pytest.mark.parametrize("method", ["qlora", "lora"])
@pytest.mark.parametrize(
    ("stored", "gib"),
    [
        (NF4, 5.31),
        ({"load_in_8bit": True}, 8.46),
        (AWQ, 5.33),
        (GPTQ, 5.34),
        (FP8, 8.46),
        ({"quant_method": "fp8"}, 8.46),
    ],
)
def test_weights_are_counted_as_the_loader_keeps_them(stored: dict[str, Any], gib: float, method: str) -> None:
    assert weights_gib(planned(stored, method=method)) == gib


def test_the_skip_list_of_a_checkpoint_keeps_modules_in_16_bit() -> None:
    head_too = planned({"load_in_8bit": True, "llm_int8_skip_modules": ["q_proj"]})
    # The list replaces transformers' own, so that the head is quantized, and q_proj is not.
    assert weights_gib(head_too) == pytest.approx(8.46 + (32 * 4096**2 - 128256 * 4096) / GIB, abs=0.02)
    assert (
        weights_gib(planned({**AWQ, "modules_to_not_convert": ["gate_proj", "up_proj", "down_proj"]}))
        > weights_gib(planned(AWQ)) + 7
    )


def test_an_fp8_checkpoint_is_dequantized_by_a_card_without_fp8_products() -> None:
    assert (
        weights_gib(planned(FP8, gpu="a100-80gb"))
        == weights_gib(planned(None, gpu="a100-80gb", method="lora"))
        == 14.96
    )


def test_a_checkpoint_can_be_dequantized_on_request() -> None:
    answer = planned({"quant_method": "mxfp4", "dequantize": True})
    assert (answer.request.method, weights_gib(answer)) == ("lora", 14.96)


def test_the_answer_says_what_was_planned_and_can_be_asked_again() -> None:
    answer = planned(AWQ)
    assert answer.request.quantization is not None
    assert answer.request.quantization.quant_method == "awq"
    again = plan(Request.parse(answer.to_dict()["request"]))
    assert again.required_bytes == answer.required_bytes
    assert "packed_checkpoint" in {notice.code for notice in answer.warnings}


def test_packed_weights_that_are_expanded_for_a_product_stay_for_its_gradient() -> None:
    off = {"gradient_checkpointing": False}
    kept = planned(AWQ, training=off).peak_allocated_bytes - planned(NF4, training=off).peak_allocated_bytes
    linear_bytes = 2 * 6_979_321_856
    assert kept == pytest.approx(linear_bytes, rel=0.1)


@pytest.mark.parametrize("stored", [NF4, AWQ, GPTQ, FP8])
def test_quantized_weights_are_not_trained_themselves(stored: dict[str, Any]) -> None:
    assert "lora" in refusal(stored, method="full")["model.quantization_config"]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"quant_method": "mxfp4"}, "trains no mxfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "dequantize"),
        ({"quant_method": "hqq"}, "cannot load HQQ"),
        ({"quant_method": "torchao", "quant_type": {}}, "int8"),
        ({"quant_method": "fbgemm_fp8"}, "trains no fbgemm_fp8"),
        ({"quant_method": "exl2"}, "no formula here plans exl2"),
        ({"quant_method": ["awq"]}, "quant_method"),
        ({"bits": 4}, "quant_method"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit"),
        ({**GPTQ, "dynamic": {"-:lm_head": {}}}, "dynamic"),
        ("awq", "object"),
    ],
)
def test_what_cannot_be_trained_or_planned_is_refused_by_name(stored: Any, words: str) -> None:
    assert words in refusal(stored)["model.quantization_config"]


def test_every_bad_key_of_a_checkpoint_is_named() -> None:
    assert set(refusal({"quant_method": "gptq", "bits": 5, "group_size": "all"})) == {
        "model.quantization_config.bits",
        "model.quantization_config.group_size",
    }


def test_a_quantization_of_another_kind_is_refused_as_transformers_does() -> None:
    assert "loads as nothing else" in refusal(AWQ, quantization={"load_in_8bit": True})["quantization"]
    with pytest.raises(InvalidRequestError):
        planned(None, quantization={"quant_method": "awq"})


def test_adapters_that_peft_cannot_put_on_packed_weights_are_refused() -> None:
    assert "lora.use_dora" in refusal(AWQ, lora={"use_dora": True})


def test_a_mixture_in_fp8_is_refused_by_name() -> None:
    config = dict(resolve_model("Qwen/Qwen3-30B-A3B").config)
    assert "stacked experts" in refusal(FP8, config=config)["model.quantization_config"]
