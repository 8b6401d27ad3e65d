"""What the imports assume, held to the source of the installed trainers. Read, not imported: that would load torch."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from app.imports import read
from app.imports.adapters.peft_targets import DEFAULT_TARGETS
from app.imports.dialects.trl import TRL
from app.imports.ignored_keys import ignored_keys

TRL_FILE = "model_name_or_path: HuggingFaceTB/SmolLM2-135M\nuse_peft: true\nload_in_4bit: true\noutput_dir: out\n"


def source(package: str, path: str) -> ast.Module:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse((Path(spec.origin).parent / path).read_text(encoding="utf-8"))


def fields(tree: ast.Module, name: str) -> dict[str, Any]:
    """Defaults of a dataclass, where they are literals; `...` where they are worked out."""
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    found: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            given = next((word.value for word in node.value.keywords if word.arg == "default"), None)
            found[node.target.id] = given.value if isinstance(given, ast.Constant) else ...
    return found


TRAINING = fields(source("transformers", "training_args.py"), "TrainingArguments")
BASE = fields(source("trl", "trainer/base_config.py"), "_BaseConfig")
SFT = fields(source("trl", "trainer/sft_config.py"), "SFTConfig")
MODEL = fields(source("trl", "trainer/model_config.py"), "ModelConfig")


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("training.per_device_train_batch_size", TRAINING["per_device_train_batch_size"]),
        ("training.max_length", SFT["max_length"]),
        ("training.gradient_checkpointing", BASE["gradient_checkpointing"]),
        ("stack.model_dtype", MODEL["dtype"]),
        ("quantization.bnb_4bit_compute_dtype", MODEL["dtype"]),
        ("quantization.bnb_4bit_quant_type", MODEL["bnb_4bit_quant_type"]),
        ("quantization.bnb_4bit_use_double_quant", MODEL["use_bnb_nested_quant"]),
        ("lora.r", MODEL["lora_r"]),
        ("lora.lora_alpha", MODEL["lora_alpha"]),
        ("lora.lora_dropout", MODEL["lora_dropout"]),
    ],
)
def test_what_trl_does_when_nothing_is_said(path: str, default: object) -> None:
    assert read(TRL_FILE).reading.get(path) == default


def test_sft_config_settles_bf16_and_the_loss_itself() -> None:
    reading = read(TRL_FILE).reading
    assert BASE["bf16"] is None
    assert reading.get("stack.autocast") == "bfloat16"
    assert SFT["loss_type"] == "nll"
    assert reading.get("training.loss") == "chunked"


def test_plain_training_arguments_do_not_checkpoint_or_autocast() -> None:
    assert (TRAINING["gradient_checkpointing"], TRAINING["bf16"], TRAINING["fp16"]) == (None, False, False)
    reading = read("output_dir: out\nmodel_name_or_path: gpt2\nnum_train_epochs: 1\n").reading
    assert (reading.get("training.gradient_checkpointing"), reading.get("stack")) == (False, "loop")


def test_the_default_optimizer_is_the_fused_one() -> None:
    text = ast.unparse(source("transformers", "training_args.py"))
    assert "default_optim = 'adamw_torch_fused'" in text
    assert read(TRL_FILE).reading.get("training.optim") == "adamw_torch_fused"


def test_every_field_of_the_trainers_own_classes_is_known_by_name() -> None:
    known = {rule.key for rule in TRL.rules} | TRL.handled | ignored_keys("trl").names
    assert sorted({*TRAINING, *BASE, *SFT, *MODEL} - known) == []


def test_peft_adapts_what_it_says_where_no_target_is_named() -> None:
    name = "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"
    tree = source("peft", "utils/constants.py")
    table = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    assert {kind: list(targets) for kind, targets in DEFAULT_TARGETS.items()} == {
        kind: table[kind] for kind in DEFAULT_TARGETS
    }
