"""Each test spoils one thing of a plan that has nothing to warn about."""

from collections.abc import Mapping
from typing import Any

import pytest

from planner import Request, plan
from planner.answer.warnings import Notice
from planner.catalog import find_gpu
from planner.gpu import Gpu
from planner.model.model import Model, resolve_model
from tests.planner.tiny import MIXTRAL

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
       "bnb_4bit_compute_dtype": "bfloat16"}  # fmt: skip
GIB = 1 << 30


def warned(on: Gpu | None = None, built: Model | None = None, **fields: Any) -> Mapping[str, Notice]:
    request = Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090", **fields})
    return {notice.code: notice for notice in plan(request, gpu=on, model=built).warnings}


def test_the_chapters_own_recipe_on_a_4090_warns_of_nothing() -> None:
    assert not warned()


def test_a_quantized_base_larger_than_the_card() -> None:
    notice = warned(model="meta-llama/Llama-2-70b-hf", gpu="rtx-4090")["base_too_large"]
    assert notice.bytes == pytest.approx(33.4 * GIB, rel=0.03)


def test_fp4_where_nf4_costs_the_same() -> None:
    assert "nf4" in warned(quantization={**NF4, "bnb_4bit_quant_type": "fp4"})["fp4_not_nf4"].message


def test_group_wise_int4_says_how_it_must_be_loaded() -> None:
    assert "AutoHQQHFModel" in warned(quantization={"quant_method": "hqq"})["int4_not_nf4"].message


def test_bfloat16_on_a_card_without_it() -> None:
    turing = Gpu(
        id="turing", name="a Turing card", usable_bytes=15 * GIB, usable_evidence="given", usable_source="test",
        compute_capability=(7, 5),
    )  # fmt: skip
    assert "float16" in warned(on=turing)["bf16_unsupported"].message
    assert "bf16_unsupported" not in warned(on=turing, quantization={**NF4, "bnb_4bit_compute_dtype": "float16"})


def test_trl_in_float16_whose_gradients_no_scaler_takes() -> None:
    float16 = {**NF4, "bnb_4bit_compute_dtype": "float16"}
    assert "first optimizer step" in warned(stack="trl", quantization=float16)["unscalable_gradients"].message
    assert "unscalable_gradients" not in warned(stack="trainer", quantization=float16)


def test_trls_fused_head_in_bfloat16_fails_on_a_t4_alone() -> None:
    assert "first backward pass" in warned(stack="trl", gpu="t4")["fused_head_unsupported"].message
    assert "fused_head_unsupported" not in warned(stack="trl", gpu="rtx-3090")
    assert "fused_head_unsupported" not in warned(stack="trl", gpu="t4", training={"loss": "full_logits"})
    float16 = {**NF4, "bnb_4bit_compute_dtype": "float16"}
    assert "fused_head_unsupported" not in warned(stack="trl", gpu="t4", quantization=float16)


def test_flash_attention_on_a_card_that_it_has_no_kernels_for() -> None:
    flash = {"attn_implementation": "flash_attention_2"}
    said = warned(gpu="t4", training=flash)["flash_attention_unsupported"].message
    assert "this card has 7.5. Set attn_implementation to sdpa" in said
    assert "flash_attention_unsupported" not in warned(gpu="rtx-3090", training=flash)
    assert "flash_attention_unsupported" not in warned(gpu="t4")


def test_the_default_compute_dtype_is_float32_and_costs_bytes() -> None:
    notice = warned(quantization={**NF4, "bnb_4bit_compute_dtype": "float32"}, stack="loop")["float32_compute"]
    assert notice.bytes is not None


def test_adapters_in_another_dtype_than_the_base_without_autocast() -> None:
    assert "adapter_dtype_mismatch" in warned(stack="loop")
    assert "adapter_dtype_mismatch" not in warned(stack={"model_dtype": "bfloat16", "adapter_dtype": "bfloat16"})


def test_double_quantization_left_off() -> None:
    notice = warned(quantization={**NF4, "bnb_4bit_use_double_quant": False})["no_double_quantization"]
    assert notice.bytes is not None
    assert notice.bytes > 250 << 20


def test_a_card_that_bitsandbytes_does_not_list() -> None:
    card = find_gpu("rtx-4090")
    other = Gpu(**{name: getattr(card, name) for name in card.__slots__} | {"bitsandbytes_4bit": False})
    assert "bitsandbytes_unsupported" in warned(on=other)


def test_float32_embeddings_that_outweigh_the_quantized_base() -> None:
    notice = warned(model="Qwen/Qwen2.5-0.5B", stack="kbit")["float32_embeddings"]
    assert notice.bytes == 2 * 151_936 * 896
    assert "float32_embeddings" not in warned(stack="kbit")


def test_a_mixture_whose_experts_stay_unquantized() -> None:
    llama = resolve_model("meta-llama/Llama-2-7b-hf")
    mixture = Model(
        id="tiny", model_type="mixtral", config={}, census=MIXTRAL, census_source="closed form", decoder=llama.decoder
    )
    found = warned(built=mixture)
    params = 2 * 4 * (1376 * 256 + 256 * 688)
    assert found["experts_unquantized"].bytes == pytest.approx(params * (2 - 4.127 / 8), rel=0.01)
    assert found["adapters_on_experts"].bytes is not None
    assert "adapters_on_experts" not in warned(built=mixture, lora={"target_modules": ["q_proj"]})


def test_trl_says_what_its_older_loss_and_a_string_model_cost() -> None:
    found = warned(stack="trl")
    assert found["trl_chunked_loss"].bytes == 6 * 32_000 * 4_096
    assert found["trl_string_float32"].bytes is not None
    assert found["trl_string_float32"].bytes > 500 << 20


def test_padded_batches() -> None:
    assert "mask" in warned(training={"padded": True, "per_device_train_batch_size": 2})["padded_batch"].message


def test_a_card_that_is_not_cudas_is_a_guess_and_so_says_the_answer() -> None:
    assert "AMD" in warned(gpu="mi300x")["not_cuda"].message
    assert "not_cuda" not in warned()


def test_a_model_that_defaults_to_eager_attention() -> None:
    notice = warned(model="google/gemma-2-2b", training={"max_length": 4096})["eager_attention"]
    assert notice.bytes is not None
    assert notice.bytes > 0
    assert "eager_attention" not in warned(model="google/gemma-2-2b", training={"attn_implementation": "eager"})


def test_targets_that_match_nothing_are_named() -> None:
    assert "c_attn" in warned(lora={"target_modules": ["q_proj", "c_attn"]})["targets_unmatched"].message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers_to_transform": [30, 31, 32], "target_modules": ["q_proj"]}, "32 of layers_to_transform"),
        ({"rank_pattern": {"q_proj": 8, "c_attn": 64}}, "c_attn of rank_pattern"),
        ({"exclude_modules": ["lm_head", "vision_tower"]}, "vision_tower of exclude_modules"),
    ],
)
def test_what_peft_passes_over_in_silence_is_named(options: dict[str, Any], said: str) -> None:
    assert f": {said}." in warned(lora=options)["targets_unmatched"].message


def test_layers_that_are_not_there_are_said_with_those_that_are() -> None:
    options = {"layers_to_transform": [31, 32], "target_modules": ["q_proj"]}
    assert "counted from 0 to 31" in warned(lora=options)["targets_unmatched"].message
    assert "targets_unmatched" not in warned(lora={**options, "layers_to_transform": [0, 31]})


def test_a_paged_optimizer_that_pages_nothing() -> None:
    assert "100,000" in warned(lora={"r": 4})["nothing_paged"].message


def test_a_notice_without_bytes_has_no_bytes_in_its_document() -> None:
    assert Notice("code", "words").to_dict() == {"code": "code", "message": "words"}
    assert Notice("code", "words", 5).to_dict()["bytes"] == 5


def test_linear_attention_is_said_to_run_without_optional_kernels() -> None:
    cut = {**resolve_model("Qwen/Qwen3.5-0.8B").config, "vocab_size": 2000}
    notice = warned(model=cut)["plain_linear_attention"]
    assert "flash-linear-attention" in notice.message
    assert notice.bytes is not None
    assert notice.bytes > 100 << 20
    assert "plain_linear_attention" not in warned(model="google/gemma-4-E2B-it")


def test_mamba_layers_are_said_to_run_without_optional_kernels() -> None:
    layers = {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"], "num_local_experts": 0}
    model = {"model_type": "granitemoehybrid", "hidden_size": 1024, "num_attention_heads": 8, "mamba_n_heads": 32}
    notice = warned(model={**model, **layers, "vocab_size": 2000})["plain_state_space"]
    assert "mamba-ssm" in notice.message
    assert notice.bytes is not None
    assert notice.bytes > 100 << 20
    assert "plain_state_space" not in warned(model="ibm-granite/granite-4.0-micro")


def test_activations_and_scores_that_a_package_would_not_keep() -> None:
    assert "package xielu" in warned(model="swiss-ai/Apertus-8B-2509")["plain_xielu"].message
    sinks = warned(model="openai/gpt-oss-20b", gpu="h200", method="lora", training={"max_length": 8192})
    assert sinks["sinks_written_out"].bytes
    assert "eager_attention" not in sinks
