"""Trainers' files of preference training: planned where TRL's trainers are, named where no formula plans them."""

from typing import Any

import pytest

from app.imports import read

MODEL = "Qwen/Qwen2.5-0.5B"
AXOLOTL = f"base_model: {MODEL}\nsequence_len: 1024\nmicro_batch_size: 2\nflash_attention: true\n"
ADAPTER = "adapter: qlora\nload_in_4bit: true\nlora_r: 16\nlora_target_linear: true\n"
TRL = f"--model_name_or_path {MODEL} --max_length 512 --output_dir out "


def understood(text: str) -> tuple[dict[str, Any], set[str]]:
    """The request's training part, and the keys that were left out of the plan."""
    imported = read(text)
    return imported.document["training"], {item.key for item in imported.not_planned}


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        (f"trl dpo {TRL}--use_peft", "dpo"),
        (f"python examples/scripts/kto.py {TRL}--use_peft", "kto"),
        (f"{AXOLOTL}{ADAPTER}rl: dpo\n", "dpo"),
        (f"{AXOLOTL}{ADAPTER}rl: ipo\n", "dpo"),
        (f"{AXOLOTL}{ADAPTER}rl: kto\nrl_beta: 0.1\n", "kto"),
        (f"{AXOLOTL}{ADAPTER}rl: orpo\norpo_alpha: 0.1\n", "orpo"),
        (f"{AXOLOTL}{ADAPTER}rl: simpo\n", "cpo"),
        (f"python examples/scripts/cpo.py {TRL}--use_peft", "cpo"),
        (f"trl grpo {TRL}--use_peft --num_generations 4 --max_completion_length 256 --loss_type dr_grpo", "grpo"),
        (f"python examples/scripts/grpo.py {TRL}--use_peft", "grpo"),
        (f"model_name_or_path: {MODEL}\nuse_peft: true\nnum_generations: 8\nmax_completion_length: 128\n", "grpo"),
        (f"{AXOLOTL}{ADAPTER}rl: grpo\ntrl:\n  num_generations: 2\n  max_completion_length: 256\n", "grpo"),
        (f"trl reward {TRL}--use_peft --lora_task_type SEQ_CLS", "reward"),
        (f"python examples/scripts/reward_modeling.py {TRL}--center_rewards_coefficient 0.01", "reward"),
        (f"{AXOLOTL}{ADAPTER}reward_model: true\nnum_labels: 1\n", "reward"),
    ],
)
def test_preference_training_is_planned(text: str, objective: str) -> None:
    training, left_out = understood(text)
    assert training["objective"] == objective
    assert left_out == set()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"python examples/scripts/online_dpo.py {TRL}--use_peft", "command"),
        (f"trl grpo {TRL}--use_transformers_continuous_batching true", "use_transformers_continuous_batching"),
        (f"trl grpo {TRL}--use_peft --reward_model_name_or_path {MODEL}", "reward_model_name_or_path"),
        (f"trl grpo {TRL}--use_peft --temperature 0.7", "temperature"),
        (f"trl grpo {TRL}--use_peft --use_vllm true --vllm_enable_sleep_mode true", "vllm_enable_sleep_mode"),
        (f"{AXOLOTL}{ADAPTER}rl: gdpo\n", "rl"),
        (f"{AXOLOTL}{ADAPTER}rl: simpo\ncpo_alpha: 0\n", "cpo_alpha"),
        (f"python examples/scripts/orpo.py {TRL}--use_peft --load_in_4bit", "command"),
        (f"{AXOLOTL}{ADAPTER}rl: dpo\ncut_cross_entropy: true\n", "cut_cross_entropy"),
        (f"trl dpo {TRL}--use_peft --use_liger_kernel", "use_liger_kernel"),
        (f"trl dpo {TRL}--ref_model_name_or_path {MODEL}-Instruct", "ref_model_name_or_path"),
        (f"trl reward {TRL}--use_peft --lora_task_type CAUSAL_LM", "lora_task_type"),
        (f"trl kto {TRL}--loss_type apo_zero_unpaired", "loss_type"),
    ],
)
def test_what_is_not_planned_is_named(text: str, key: str) -> None:
    assert key in understood(text)[1]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (f"trl dpo {TRL}--precompute_ref_log_probs true", "precompute_ref_log_probs", True),
        (f"trl dpo {TRL}--use_peft --ref_model_name_or_path {MODEL}", "ref_model", "copy"),
        (f"{AXOLOTL}{ADAPTER}rl: dpo\nrl_adapter_ref_model: true\n", "ref_model", "copy"),
        (f"{AXOLOTL}rl: dpo\n", "ref_model", "copy"),
        (f"{AXOLOTL}{ADAPTER}rl: dpo\nprecompute_ref_log_probs: true\n", "precompute_ref_log_probs", True),
        (f"{AXOLOTL}{ADAPTER}rl: dpo\n", "ref_model", None),
    ],
)
def test_the_reference_is_read(text: str, field: str, value: object) -> None:
    training, left_out = understood(text)
    assert training.get(field) == value
    assert left_out == set()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            f"trl grpo --model_name_or_path {MODEL} --max_prompt_length 256 --max_completion_length 128 --beta 0.04",
            {"max_length": 384, "max_completion_length": 128, "beta": 0.04},
        ),
        (f"trl grpo --model_name_or_path {MODEL} --output_dir out", {"max_length": 1024, "max_completion_length": 512}),
        (
            f"trl grpo --model_name_or_path {MODEL} --per_device_train_batch_size 4 --generation_batch_size 32",
            {"steps_per_generation": 8},
        ),
        (
            f"trl grpo --model_name_or_path {MODEL} --use_vllm true --vllm_gpu_memory_utilization 0.4",
            {"vllm_gpu_memory_utilization": 0.4},
        ),
        (
            f"{AXOLOTL}{ADAPTER}rl: grpo\ntrl:\n  use_vllm: true\n  vllm_mode: server\n  beta: 0.01\n",
            {"vllm_gpu_memory_utilization": 0.0, "beta": 0.01, "max_length": 1024},
        ),
    ],
)
def test_what_grpo_is_told_of_generation_is_read(text: str, wanted: dict[str, object]) -> None:
    training, left_out = understood(text)
    assert {name: training.get(name) for name in wanted} == wanted
    assert left_out == set()
