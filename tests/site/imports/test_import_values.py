"""Values that are dropped nowhere: mappings inside a file, switches that are none, words in quotes."""

from typing import Any

import pytest

from app.imports import read
from tests.site.test_field_kinds import SMALL, axolotl, planned

TRL = (
    f"model_name_or_path: {SMALL}\nmax_length: 512\npacking: true\nuse_peft: true\nlora_target_modules: all-linear\n"
    "per_device_train_batch_size: 1\ndtype: bfloat16\n"
)


def left_out(text: str) -> set[str]:
    return {item.key for item in read(text, gpu="l40s").not_planned}


def test_axolotls_bnb_config_is_planned_or_left_out_key_by_key() -> None:
    kept = axolotl("bnb_config_kwargs: {llm_int8_skip_modules: [q_proj], bnb_4bit_quant_storage: bfloat16}")
    quantization = read(kept, gpu="l40s").document["quantization"]
    assert quantization["llm_int8_skip_modules"] == ["q_proj"]
    assert quantization["bnb_4bit_quant_storage"] == "bfloat16"
    assert left_out(kept) == set()
    assert planned(kept).peak_allocated_bytes > planned(axolotl()).peak_allocated_bytes
    assert left_out(axolotl("bnb_config_kwargs: {llm_int8_enable_fp32_cpu_offload: true}")) == {"bnb_config_kwargs"}
    eight = axolotl("bnb_config_kwargs: {llm_int8_threshold: 0.0}").replace("load_in_4bit", "load_in_8bit")
    assert "bnb_config_kwargs" in left_out(eight.replace("qlora", "lora"))


def test_a_list_beside_lora_target_linear_adds_the_embedding_and_the_head() -> None:
    with_head = planned(axolotl("lora_target_modules: [q_proj, embed_tokens, lm_head]"))
    assert with_head.verdict == "fits"
    assert with_head.peak_allocated_bytes > planned(axolotl("lora_target_modules: [q_proj]")).peak_allocated_bytes
    unknown = axolotl("lora_target_modules: [q_proj, embed_tokens]", model="somebody/a-model")
    assert left_out(unknown) == {"lora_target_modules"}


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("{device_map: auto}", {"model_init_kwargs"}),
        ("{quantization_config: {load_in_4bit: true}}", {"model_init_kwargs"}),
        ("{attn_implementation: eager, low_cpu_mem_usage: true}", set()),
        ("[device_map]", {"model_init_kwargs"}),
    ],
)
def test_trls_model_init_kwargs_are_read_or_left_out(inner: str, expected: set[str]) -> None:
    assert left_out(f"{TRL}model_init_kwargs: {inner}\n") == expected


def test_attention_inside_model_init_kwargs_is_planned() -> None:
    read_as = read(f"{TRL}model_init_kwargs: {{attn_implementation: eager}}\n", gpu="l40s").document["training"]
    assert read_as["attn_implementation"] == "eager"


def test_new_tokens_make_the_vocabulary_larger() -> None:
    assert left_out(axolotl("tokens: ['<|im_start|>']")) == {"tokens"}


@pytest.mark.parametrize("true", ['"true"', "'True'", "1", "yes"])
def test_a_switch_is_on_however_yes_is_written(true: str) -> None:
    text = axolotl().replace("load_in_4bit: true", f"load_in_4bit: {true}")
    assert read(text, gpu="l40s").document == read(axolotl(), gpu="l40s").document


SWITCHES: list[tuple[str, str, Any]] = [
    (axolotl(), "load_in_8bit", "maybe"),
    (axolotl(), "flex_attention", [1]),
    (axolotl().replace("bf16: auto", ""), "bf16", "maybe"),
    (axolotl(), "gradient_checkpointing_kwargs", "use_reentrant"),
    (axolotl(), "eval_batch_size", "many"),
    (TRL, "use_liger_kernel", "maybe"),
    (f"model_name_or_path: {SMALL}\nstage: sft\ncutoff_len: 512\n", "packing", "maybe"),
    (f"model: {SMALL}\ntrain_type: lora\nmax_length: 512\n", "use_liger_kernel", "maybe"),
]


@pytest.mark.parametrize(("text", "key", "value"), SWITCHES)
def test_a_value_that_a_switch_cannot_have_is_never_dropped(text: str, key: str, value: Any) -> None:
    assert key in {problem.field for problem in read(f"{text}\n{key}: {value}\n", gpu="l40s").reading.contradictions}
    assert planned(f"{text}\n{key}: {value}\n").verdict == "tight"


@pytest.mark.parametrize(
    ("key", "harmless", "moving"),
    [
        ("model_type", "LlamaForCausalLM", "AutoModelForSequenceClassification"),
        ("model_type", "GPT2LMHeadModel", "AutoModelForImageTextToText"),
        ("peft_init_lora_weights", "gaussian", "eva"),
        ("peft_init_lora_weights", "true", "loftq"),
    ],
)
def test_a_key_that_moves_memory_with_some_values_is_left_out_with_these(key: str, harmless: str, moving: str) -> None:
    assert left_out(axolotl(f"{key}: {harmless}")) == set()
    assert left_out(axolotl(f"{key}: {moving}")) == {key}
    assert planned(axolotl(f"{key}: {moving}")).verdict == "tight"


def test_an_adapter_that_classifies_or_trains_biases_is_no_plain_lora() -> None:
    adapter = '{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B", "r": 8, "target_modules": ["q_proj"]'
    assert left_out(adapter + ', "task_type": "CAUSAL_LM", "init_lora_weights": true, "loftq_config": {}}') == set()
    assert left_out(adapter + ', "task_type": "SEQ_CLS", "init_lora_weights": "eva"}') == {
        "task_type",
        "init_lora_weights",
    }
    assert left_out(f"{TRL}lora_bias: all\n") == {"lora_bias"}
    assert left_out(f"{TRL}lora_task_type: CAUSAL_LM\nbias: none\n") == set()


def test_code_of_ones_own_may_move_memory() -> None:
    command = f"swift sft --model {SMALL} --train_type lora --max_length 512 --external_plugins plugin.py"
    assert left_out(command) == {"external_plugins"}


@pytest.mark.parametrize(
    "text",
    [
        "model_name_or_path: Qwen/Qwen2.5-0.5B\nstage: sft\nfinetuning_type: full\ncutoff_len: 512\nuse_muon: true\n",
        "base_model: Qwen/Qwen2.5-0.5B\nsequence_len: 512\nmicro_batch_size: 1\noptimizer: muon\n",
    ],
)
def test_trainers_own_muon_is_planned(text: str) -> None:
    imported = read(text)
    assert imported.document["training"]["optim"] == "muon"
    assert not {"use_muon", "optimizer"} & {item.key for item in imported.not_planned}
