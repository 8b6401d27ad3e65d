"""Flags by the names that people have in their fingers: those of TrainingArguments, LoraConfig and trainers' files."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import app

RUN = ("meta-llama/Llama-3.2-1B", "rtx-4090", "--json")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *RUN, *words])


def planned(*words: str) -> Any:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("--per_device_train_batch_size 4 --max_length 512", "--batch 4 --length 512"),
        ("--per-device-train-batch-size=4 --max-length=512", "--batch 4 --length 512"),
        ("--micro_batch_size 4 --sequence_len 512 --lora_rank 8", "--batch 4 --length 512 --rank 8"),
        ("--cutoff_len 512 --lora_r 8 --lora_target q_proj,v_proj", "--length 512 --rank 8 --targets q_proj,v_proj"),
        ("--gradient_checkpointing false --no_double_quant", "--no-checkpointing --no-double-quant"),
        ("--gradient_checkpointing true --use_dora", "--checkpointing --dora"),
        ("--load_in_8bit True", "--quant-type int8"),
        ("--max_length 512 --length 512", "--length 512"),
    ],
)
def test_a_flag_answers_to_trainers_names_in_either_spelling(words: str, flags: str) -> None:
    assert planned(*words.split()) == planned(*flags.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--max_length 512 --cutoff_len 256", "--max_length 512 and --cutoff_len 256 are both --length"),
        ("--length 512 --max_length 256", "--length 512 and --max_length 256 are both --length"),
        ("--quant-type int8 --load_in_4bit", "--quant-type int8 and --load_in_4bit nf4 are both --quant-type"),
        ("--load_in_4bit false", "--method lora"),
        ("--use_dora perhaps", "perhaps"),
        ("--use_dora false", "leave it out"),
        ("--bf16 true", "no flag says this"),
        ("--micro_batch_sice 4", "No such option: --micro-batch-sice"),
    ],
)
def test_what_no_flag_says_is_an_error_with_the_fix(words: str, said: str) -> None:
    result = run(*words.split())
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_checkpointing_may_be_turned_on_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sft.yml"
    file.write_text("model_name_or_path: meta-llama/Llama-3.2-1B\nmax_length: 512\ngradient_checkpointing: false\n")
    answers = [
        json.loads(CliRunner().invoke(app, ["plan", str(file), "4090", "--json", *words]).stdout)
        for words in ([], ["--gradient_checkpointing", "true"])
    ]
    assert answers[0]["peak_allocated_bytes"] > answers[1]["peak_allocated_bytes"]
