"""Packing, evaluation, Liger's kernels and offloading, as trainers' files and scripts ask for them."""

from typing import Any

import pytest

from app.imports import Imported, read

AXOLOTL = """\
base_model: meta-llama/Llama-3.2-1B
load_in_4bit: true
adapter: qlora
lora_r: 16
lora_target_linear: true
sequence_len: 1024
micro_batch_size: 2
sample_packing: true
"""
TRL = """\
model_name_or_path: meta-llama/Llama-3.2-1B
max_length: 1024
per_device_train_batch_size: 2
use_peft: true
lora_target_modules: all-linear
"""


def imported(text: str) -> Imported:
    return read(text, gpu="rtx-4090")


def training(text: str) -> dict[str, Any]:
    found: dict[str, Any] = imported(text).document["training"]
    return found


@pytest.mark.parametrize("more", ["packing: true\n", "packing: true\npacking_strategy: bfd_split\n"])
def test_trls_packing_is_one_row_of_documents(more: str) -> None:
    assert training(TRL + more)["packing"] is True


def test_trls_old_packing_cuts_sequences_of_one_length() -> None:
    found = training(f"{TRL}packing: true\npacking_strategy: wrapped\n")
    assert "packing" not in found
    assert "padded" not in found


def test_axolotl_joins_rows_where_flash_attention_is_told_of_their_borders() -> None:
    assert training(f"{AXOLOTL}flash_attention: true\n")["packing"] is True
    assert "packing" not in training(f"{AXOLOTL}sdp_attention: true\n")


def test_a_script_of_trl_packs() -> None:
    script = (
        "from trl import SFTConfig, SFTTrainer\n"
        'args = SFTConfig(output_dir="out", packing=True, max_length=512, per_device_train_batch_size=2,\n'
        '    eval_strategy="steps", activation_offloading=True)\n'
        'trainer = SFTTrainer(model="meta-llama/Llama-3.2-1B", args=args)\n'
    )
    found = training(script)
    assert found["packing"] is True
    assert found["activation_offloading"] is True
    assert found["per_device_eval_batch_size"] == 8


def test_an_evaluation_strategy_alone_evaluates_eight_at_a_time() -> None:
    assert training(f"{TRL}eval_strategy: steps\n")["per_device_eval_batch_size"] == 8
    assert "per_device_eval_batch_size" not in training(TRL)


def test_a_shell_line_says_how_much_is_evaluated() -> None:
    line = "trl sft --model_name_or_path meta-llama/Llama-3.2-1B --eval_strategy steps --per_device_eval_batch_size 4"
    assert training(line)["per_device_eval_batch_size"] == 4


def test_axolotls_liger_kernels_stand_beside_cut_cross_entropy() -> None:
    switches = "cut_cross_entropy: true\nliger_rope: true\nliger_glu_activation: true\n"
    answer = imported(AXOLOTL + switches)
    found = answer.document["training"]
    assert found["loss"] == "cut_cross_entropy"
    assert found["liger_kernel_config"] == {"rope": True, "rms_norm": False, "swiglu": True}
    assert not answer.not_planned


def test_a_part_of_ligers_kernels_beside_its_own_loss() -> None:
    found = training(f"{AXOLOTL}liger_fused_linear_cross_entropy: true\nliger_rms_norm: true\n")
    assert found["loss"] == "liger"
    assert found["liger_kernel_config"] == {"rope": False, "rms_norm": True, "swiglu": False}


@pytest.mark.parametrize("text", [f"{AXOLOTL}noisy_embedding_alpha: 5\n", f"{TRL}neftune_noise_alpha: 5\n"])
def test_noise_on_the_embedded_tokens_is_planned(text: str) -> None:
    assert training(text)["neftune_noise_alpha"] == 5.0


def test_transformers_kernels_by_name() -> None:
    config = "use_liger_kernel: true\nliger_kernel_config: {rope: false, fused_linear_cross_entropy: false}\n"
    found = training(TRL + config)
    assert found["liger_kernel_config"] == {"rope": False}
    assert found.get("loss") != "liger"


def test_what_galore_and_apollo_project_is_read_and_is_left_out_beside_other_optimizers() -> None:
    axolotl = f"{AXOLOTL}optimizer: galore_adamw\noptim_target_modules: [self_attn, mlp]\noptim_args: rank=64\n"
    read = training(axolotl)
    assert (read["optim_target_modules"], read["optim_args"]) == (["self_attn", "mlp"], "rank=64")
    trl = f"{TRL}optim: apollo_adamw\noptim_target_modules: all-linear\noptim_args: proj=random,rank=256\n"
    assert training(trl)["optim_target_modules"] == "all-linear"
    assert "optim_args" not in training(f"{TRL}optim: ademamix\noptim_args: alpha=4\n")


@pytest.mark.parametrize(("attention", "named"), [("fa2", []), ("sdpa", ["neat_packing"]), ("auto", ["neat_packing"])])
def test_llama_factorys_neat_packing_has_a_mask_where_no_kernel_is_told_of_the_borders(
    attention: str, named: list[str]
) -> None:
    config = (
        "model_name_or_path: meta-llama/Llama-3.2-1B\nstage: sft\nfinetuning_type: lora\nlora_target: all\n"
        f"cutoff_len: 2048\nbf16: true\nneat_packing: true\nflash_attn: {attention}\n"
    )
    assert [item.key for item in read(config, gpu="rtx-4090").not_planned] == named
