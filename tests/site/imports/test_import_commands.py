"""Command lines as people paste them: with comments, pipes and prefixes; scripts that train, or train nothing."""

import pytest

from app.imports import UnreadableConfigError, read

SMALL = "Qwen/Qwen3-0.6B"
SWIFT = f"swift sft --model {SMALL} --train_type lora"
SCRIPT = f"--model_name_or_path {SMALL} --max_length 512 --packing true --per_device_train_batch_size 1"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (f"{SWIFT} --dataset AI-ModelScope/alpaca-gpt4-data-zh#500 --max_length 640", 640),
        (f"{SWIFT} --system 'say # often' --max_length 640 # --max_length 64", 640),
        (f"{SWIFT} --max_length 640 2>&1 | tee log.txt", 640),
        (f"nohup {SWIFT} --max_length 640 > log.txt &", 640),
        (f"{SWIFT} --max_length 640 && echo --max_length 64", 640),
        (f"!{SWIFT} --max_length 640", 640),
        (f"CUDA_VISIBLE_DEVICES=0 uv run {SWIFT} --max_length 640", 640),
    ],
)
def test_a_command_is_read_to_its_end_and_no_further(text: str, length: int) -> None:
    imported = read(text, gpu="l40s")
    assert imported.document["training"]["max_length"] == length
    assert imported.not_planned == ()


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        (f"python trl/scripts/sft.py {SCRIPT}", set()),
        (f"accelerate launch -m trl.scripts.sft {SCRIPT}", set()),
        (f"python train.py {SCRIPT}", {"command"}),
        (f"python sft_vlm.py {SCRIPT}", {"command"}),
        (f"python -m trl.scripts.dpo {SCRIPT}", set()),
        (f"python -m trl.scripts.grpo {SCRIPT}", set()),
        (f"python -m trl.scripts.rloo {SCRIPT}", {"command"}),
        (f"torchrun run_glue.py {SCRIPT}", {"command"}),
        (f"python src/train.py --stage sft --cutoff_len 512 --packing true --model_name_or_path {SMALL}", set()),
    ],
)
def test_a_script_of_ones_own_may_do_more_than_its_options_say(command: str, left_out: set[str]) -> None:
    assert {item.key for item in read(command, gpu="l40s").not_planned} == left_out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"python scripts/pissa_init.py --model_name_or_path {SMALL} --output_dir out", "runs `pissa_init`"),
        (f"python scripts/llama_pro.py --model_name_or_path {SMALL} --num_expand 8", "runs `llama_pro`"),
        (f"python scripts/vllm_infer.py --model_name_or_path {SMALL} --template qwen3", "runs `vllm_infer`"),
        (f"python merge_peft_adapter.py --model_name_or_path {SMALL} --output_dir x", "runs `merge_peft_adapter`"),
        ("llamafactory-cli train examples/train_lora/llama3_lora_sft.yaml", "from examples/train_lora/llama3"),
        ("axolotl train config.yml --micro-batch-size 4", "reads its settings from config.yml"),
        ("accelerate launch -m axolotl.cli.train examples/qlora.yml", "reads its settings from examples/qlora.yml"),
        (
            "accelerate launch --config_file zero3.yaml scripts/run_sft.py recipes/sft.yaml --load_in_4bit=true",
            "reads its settings from recipes/sft.yaml",
        ),
        ("tune run lora_finetune_single_device --config llama3_1/8B_lora batch_size=2", "from llama3_1/8B_lora"),
        ("oumi train -c configs/train.yaml", "reads its settings from configs/train.yaml"),
        (f"autotrain llm --train --model {SMALL} --peft", "runs `autotrain llm`"),
    ],
)  # fmt: skip
def test_a_command_without_a_training_in_it_is_refused_for_what_it_is(command: str, sentence: str) -> None:
    with pytest.raises(UnreadableConfigError) as refusal:
        read(command)
    assert sentence in refusal.value.problems[0].message


def test_litgpts_folder_stands_without_a_name_and_its_program_is_the_method() -> None:
    litgpt = read(f"litgpt finetune_lora checkpoints/{SMALL} --train.max_seq_length 512", gpu="l40s").document
    assert (litgpt["model"], litgpt["method"]) == (SMALL, "lora")
    assert read(f"litgpt finetune_full {SMALL}", gpu="l40s").document["method"] == "full"


def test_a_scripts_quotients_are_worked_out_from_left_to_right() -> None:
    script = f"nproc=8\nnnodes=2\n{SWIFT} --gradient_accumulation_steps $(expr 64 / $nproc / $nnodes)"
    assert read(script).document["training"]["gradient_accumulation_steps"] == 4
