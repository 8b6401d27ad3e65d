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
        (f"python examples/scripts/grpo.py {TRL}--use_peft", "command"),
        (f"{AXOLOTL}{ADAPTER}rl: grpo\n", "rl"),
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
