"""A file with its advice written in: nothing else in it may move."""

import json
from pathlib import Path

import httpx
import pytest

from app.imports import read
from tests.site.imports import configs

FOLDER = Path(__file__).parent / "examples"


@pytest.mark.parametrize("text", [configs.AXOLOTL, configs.LLAMA_FACTORY, configs.TRL_YAML, configs.AXOLOTL_FULL])
def test_a_file_without_a_change_comes_back_as_it_was(text: str) -> None:
    assert read(text).edited({})[0] == text


def test_a_change_touches_its_line_and_no_other() -> None:
    edited, left = read(configs.AXOLOTL).edited({"training.per_device_train_batch_size": 1, "lora.r": 8})
    before, after = configs.AXOLOTL.splitlines(), edited.splitlines()
    assert [line for line in after if line not in before] == ["lora_r: 8", "micro_batch_size: 1   # raise me"]
    assert len(before) == len(after)
    assert not left


def test_a_change_of_a_key_that_is_not_there_is_added() -> None:
    edited, _ = read(configs.LLAMA_FACTORY).edited({"training.loss": "liger", "training.gradient_checkpointing": False})
    assert "enable_liger_kernel: true" in edited
    assert "disable_gradient_checkpointing: true" in edited
    assert "# choices: [8 (bnb/hqq/eetq), 4 (bnb/hqq)]" in edited


@pytest.mark.parametrize(
    ("text", "change", "edited"),
    [
        ("base_model: x\nlora_r:   16  # why\n", {"lora.r": 8}, "base_model: x\nlora_r:   8  # why\n"),
        ("base_model: x\r\nlora_r: 16\r\n", {"lora.r": 8}, "base_model: x\r\nlora_r: 8\r\n"),
        ("base_model: x\nlora_r:\nadapter: lora\n", {"lora.r": 8}, "base_model: x\nlora_r: 8\nadapter: lora\n"),
        ("base_model: x\nlora_r: null\n", {"lora.r": 8}, "base_model: x\nlora_r: 8\n"),
        ("base_model: x", {"lora.r": 8}, "base_model: x\nlora_r: 8\n"),
        ("---\nbase_model: x\nlora_r: 16\n", {"lora.r": 8}, "---\nbase_model: x\nlora_r: 8\n"),
        (
            "base_model: x\nlora_target_modules:  # these\n- q_proj\n- v_proj  # both\n\n# next\nlora_r: 4\n",
            {"lora.target_modules": ["q_proj"]},
            "base_model: x\nlora_target_modules: [q_proj]  # both\n\n# next\nlora_r: 4\n",
        ),
        (
            "base_model: x\nlora_target_modules: [q_proj,   v_proj]\n",
            {"lora.target_modules": ["q_proj"]},
            "base_model: x\nlora_target_modules: [q_proj]\n",
        ),
        (
            "base_model: x\noptimizer: 'sgd'\n",
            {"training.optim": "adamw_8bit"},
            "base_model: x\noptimizer: 'adamw_8bit'\n",
        ),
        ("base_model: x\nsample_packing: yes\nextra: ~\n", {}, "base_model: x\nsample_packing: yes\nextra: ~\n"),
    ],
)
def test_nothing_but_the_value_changes(text: str, change: dict[str, object], edited: str) -> None:
    assert read(text).edited(change)[0] == edited


def test_a_value_that_an_alias_repeats_is_changed_in_one_place_only() -> None:
    edited, _ = read("base_model: x\nmicro_batch_size: &n 4\nlora_r: *n\n").edited({"lora.r": 8})
    again = read(edited).document
    assert (again["lora"]["r"], again["training"]["per_device_train_batch_size"]) == (8, 4)


def test_a_mapping_in_braces_comes_back_as_one() -> None:
    edited, _ = read(configs.CHAPTER).edited({"lora.r": 8})
    assert read(edited).document["lora"]["r"] == 8


def test_json_comes_back_as_json() -> None:
    edited, _ = read(configs.TRAINING_ARGUMENTS).edited({"training.per_device_train_batch_size": 1})
    assert json.loads(edited)["per_device_train_batch_size"] == 1


def test_a_change_that_the_file_cannot_hold_is_named() -> None:
    assert read(configs.AXOLOTL).edited({"stack": "loop"})[1] == ["stack"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (
            "base_model: gpt2\nadapter: lora  # so far\nlora_r: 8\nlora_target_linear: true\n",
            ("adapter", "load_in_4bit"),
        ),
        ("model_name_or_path: gpt2\nfinetuning_type: lora\n", ("quantization_bit",)),
        ("model_name_or_path: gpt2\nuse_peft: true\nlora_r: 8\n", ("load_in_4bit", "use_bnb_nested_quant", "dtype")),
    ],
)
def test_another_method_is_written_with_every_key_it_takes(text: str, keys: tuple[str, ...]) -> None:
    edited, left = read(text).edited({"method": "qlora"})
    again = read(edited)
    assert not left
    assert not again.reading.contradictions
    assert again.document["method"] == "qlora"
    assert again.document["quantization"]["bnb_4bit_use_double_quant"]
    assert set(keys) <= set(again.reading.config)


PROMISING = [
    (name, card)
    for name in ("axolotl/llama2_full_flash", "axolotl/lora_that_says_4bit", "axolotl/total_batch_size",
                 "llama_factory/full_in_float32", "llama_factory/padded_batches", "trl/smollm3_full", "trl/padded")
    for card in ("t4", "rtx-3060-12gb", "rtx-4090")
]  # fmt: skip


@pytest.mark.parametrize(("name", "card"), PROMISING)
def test_a_file_with_all_of_the_advice_gets_the_verdict_it_was_promised(
    site: httpx.Client, name: str, card: str
) -> None:
    [file] = FOLDER.glob(f"{name}.y*ml")
    first = site.post("/api/v1/imports", json={"config": file.read_text(), "gpu": card}).json()
    edited = first["edited"]
    if edited is None or edited["left"]:
        return  # it fits as it stands, or a part of the advice is no key of a file
    again = site.post("/api/v1/imports", json={"config": edited["text"], "gpu": card}).json()
    assert again["contradictions"] == []
    # A contradiction holds the promise down to tight; where the advice mends it, the file does better.
    mended = "fits" if first["contradictions"] and edited["verdict"] == "tight" else edited["verdict"]
    assert again["plan"]["verdict"] == mended
