"""Scripts and notebooks are read without being run: what stands in them as a literal is planned, the rest is named."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.imports import Imported, UnreadableConfigError, read

TRL = """
import os, torch
from trl import SFTConfig, SFTTrainer
LENGTH = 512 * 2
os.system("touch /tmp/run")  # never run
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", quantization_config=bnb, device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("another/tokenizer")
args = SFTConfig("out", per_device_train_batch_size=2, max_length=LENGTH, packing=True, optim="adamw_8bit")
trainer = SFTTrainer(model=model, args=args, peft_config=LoraConfig(r=8, target_modules="all-linear"))
trainer.train()
"""
UNSLOTH = """
from unsloth import FastLanguageModel
max_seq_length = 4096
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="unsloth/Meta-Llama-3.1-8B", max_seq_length=max_seq_length, dtype=None, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=32, use_gradient_checkpointing="unsloth", lora_alpha=32)
trainer = SFTTrainer(model=model, tokenizer=tokenizer, args=TrainingArguments(
    per_device_train_batch_size=2, fp16=not is_bfloat16_supported(), bf16=is_bfloat16_supported()))
"""
TRAINER = """
import transformers
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype=torch.bfloat16)
model = prepare_model_for_kbit_training(model)
common = {"gradient_accumulation_steps": 4, "bf16": True}
trainer = transformers.Trainer(model, TrainingArguments("out", per_device_train_batch_size=4, **common))
"""


def imported(text: str) -> Imported:
    return read(text, gpu="rtx-4090")


def test_a_trl_script_is_planned_with_the_libraries_own_defaults() -> None:
    document = imported(TRL).document
    assert document["model"] == "Qwen/Qwen2.5-7B"
    assert document["method"] == "qlora"
    assert document["training"]["max_length"] == 1024
    assert document["training"]["optim"] == "adamw_8bit"
    assert document["lora"] == {
        "r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear",
    }  # fmt: skip
    assert document["quantization"]["bnb_4bit_use_double_quant"] is False
    assert document["stack"] == "trl"
    assert imported(TRL).not_planned == ()


OPTIONS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-m", "--base-model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--bs", type=int, default=4)
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--layers", type=int)
cli = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained(cli.base_model)
lora = LoraConfig(r=8, target_modules=["q_proj"], layers_to_transform=list(range(16, 24)))
trainer = transformers.Trainer(model, TrainingArguments("out", per_device_train_batch_size=cli.bs, bf16=cli.bf16))
"""


def test_an_option_of_the_script_is_worth_its_default_and_a_range_its_numbers() -> None:
    document = imported(OPTIONS).document
    assert document["model"] == "Qwen/Qwen2.5-0.5B"
    assert document["training"]["per_device_train_batch_size"] == 4
    assert document["lora"]["layers_to_transform"] == list(range(16, 24))
    without = imported(OPTIONS.replace("cli.bs", "cli.layers"))
    assert "per_device_train_batch_size" in {item.key for item in without.not_planned}


@pytest.mark.parametrize("layers", ["range(0, 8, 0)", "range(10**6)", "range(n)", "range(2.5)", "range()"])
def test_a_range_that_cannot_be_is_named(layers: str) -> None:
    found = imported(OPTIONS.replace("range(16, 24)", layers))
    assert any("layers_to_transform" in item.key for item in found.not_planned)


def test_an_unsloth_notebook_is_planned_with_its_own_layers() -> None:
    install = {"cell_type": "code", "source": ["%%capture\n", "!pip install unsloth"]}
    cells = [{"cell_type": "markdown", "source": ["# Train"]}, install]
    cells += [{"cell_type": "code", "source": UNSLOTH.splitlines(keepends=True)}]
    for text in (UNSLOTH, json.dumps({"nbformat": 4, "cells": cells})):
        document = imported(text).document
        assert document["model"] == "unsloth/Meta-Llama-3.1-8B"
        assert (document["lora"]["r"], document["training"]["max_length"]) == (32, 4096)
        assert document["quantization"]["bnb_4bit_use_double_quant"] is True
        assert document["stack"] == "unsloth"
        assert document["training"]["gradient_checkpointing"] == "unsloth"
        assert imported(text).not_planned == ()


@pytest.mark.parametrize(
    ("written", "instead", "why"),
    [
        ("unsloth/Meta-Llama-3.1-8B", "google/gemma-3-1b-it", "gemma3_text"),
        ("r=32,", "r=32, use_dora=True,", "DoRA"),
        ("load_in_4bit=True", "load_in_8bit=True", "4 bit (load_in_4bit) or 16 bit"),
    ],
)
def test_what_no_formula_follows_of_unsloth_is_named_with_the_reason(written: str, instead: str, why: str) -> None:
    found = imported(UNSLOTH.replace(written, instead))
    assert found.document["stack"] != "unsloth"
    assert [why in item.why for item in found.not_planned if item.key == "unsloth"] == [True]


def test_plain_checkpointing_of_an_unsloth_script_stays_on_the_card() -> None:
    text = UNSLOTH.replace('use_gradient_checkpointing="unsloth"', "use_gradient_checkpointing=True")
    document = imported(text).document
    assert (document["stack"], document["training"]["gradient_checkpointing"]) == ("unsloth", True)


def test_a_script_of_the_plain_trainer_is_its_stack() -> None:
    document = imported(TRAINER).document
    assert document["method"] == "full"
    assert document["training"]["per_device_train_batch_size"] == 4
    assert document["training"]["gradient_accumulation_steps"] == 4
    assert document["training"]["gradient_checkpointing"] is True


def test_a_preference_script_is_never_plain_sft() -> None:
    text = TRL.replace("SFTConfig", "DPOConfig").replace("SFTTrainer", "DPOTrainer")
    assert imported(text).document["training"]["objective"] == "dpo"
    online = text.replace("DPO", "GRPO")
    assert imported(online).document["training"]["objective"] == "grpo"
    assert not imported(online).not_planned
    scored = online.replace("peft_config=LoraConfig", 'reward_funcs=[short, "Qwen/Qwen3-4B"], peft_config=LoraConfig')
    assert {item.key for item in imported(scored).not_planned} == {"reward_model_name_or_path"}
    assert imported(text.replace("DPO", "RLOO")).not_planned


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("max_length=LENGTH", "max_length=parsed.length", "max_length"),
        (
            "per_device_train_batch_size=2",
            "per_device_train_batch_size=int(os.environ['B'])",
            "per_device_train_batch_size",
        ),
        ("r=8", "r=8 if big else 4", "lora_r"),
        ("LENGTH = 512 * 2", "LENGTH = 512\nLENGTH = 4096", "max_length"),
        ("packing=True", "packing=True, **others", "**others"),
    ],
)
def test_what_only_running_would_tell_is_named_with_its_source(before: str, after: str, key: str) -> None:
    (item,) = imported(TRL.replace(before, after)).not_planned
    assert item.key == key
    assert item.saves


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("import torch\nfor batch in data:\n    loss.backward()\n", "fitproof dry-run"),
        ("import torch\nx = (\n", "does not parse"),
        ("import torch\nx = " + "(" * 5000 + ")" * 5000, "Python"),
        ("import torch\nx = " + "-" * 20000 + "1\nTrainer(args=x)", "Python"),
    ],
)
def test_a_program_that_cannot_be_read_is_one_sentence(text: str, word: str) -> None:
    with pytest.raises(UnreadableConfigError) as refused:
        imported(text)
    assert word in str(refused.value.problems)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_part_of_a_script_is_understood_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([TRL, UNSLOTH, TRAINER]))
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    piece = data.draw(st.sampled_from(["", "9" * 400, "*", "lambda: 0", "**{**x}", "\x00", "f'{x}'", "1 // 0", "True"]))
    with contextlib.suppress(UnreadableConfigError):
        assert imported(text[:begin] + piece + text[end:]).document
