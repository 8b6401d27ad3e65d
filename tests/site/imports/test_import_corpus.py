"""Every dialect's files: the kind of each, its planned keys and those left out; and that no remainder is green."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cli import app
from app.imports import TRAINERS, UnreadableConfigError, read
from app.imports.rules import Trainer
from app.imports.sources.loading import load
from tests.site.terminal import invoke

FOLDER = Path(__file__).parent
CORPUS: dict[str, dict[str, Any]] = json.loads((FOLDER / "corpus.json").read_text())
# One file of each dialect, small models all, to which single keys are added below.
BASES = {
    "axolotl": "examples/axolotl/no_packing_is_padded.yml", "llama-factory": "examples/llama_factory/llama3_lora.yaml",
    "trl": "examples/trl/padded.yaml", "ms-swift": "dialects/swift/lora.yaml",
    "unsloth-studio": "dialects/studio/lora_text.yaml", "autotrain": "dialects/autotrain/sft_int4.yml",
    "oumi": "dialects/oumi/lora.yaml", "torchtune": "dialects/torchtune/lora.yaml",
    "litgpt": "dialects/litgpt/nf4.yaml", "llama-factory-v1": "dialects/llama_factory_v1/lora.yaml",
    "adapter-config": "dialects/adapter/plain.json", "chapter": "dialects/chapter/dictionary.json",
}  # fmt: skip


def test_every_dialect_is_in_the_corpus_and_every_file_in_its_list() -> None:
    files = {
        str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*/*") if path.suffix in {".yml", ".yaml", ".json"}
    }
    assert files == CORPUS.keys()
    assert len(files) >= 60
    assert {entry["kind"] for entry in CORPUS.values()} == {trainer.id for trainer in TRAINERS}


@pytest.mark.parametrize("name", CORPUS)
def test_a_files_kind_its_planned_keys_and_those_left_out(name: str) -> None:
    imported = read((FOLDER / name).read_text(), gpu="a100-sxm-80gb")
    assert {
        "kind": imported.trainer.id,
        "planned": sorted({item.key for item in imported.reading.recognised if item.key in imported.reading.config}),
        "left_out": sorted({item.key for item in imported.not_planned}),
    } == CORPUS[name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"zero_optimization": {"stage": 2}, "train_batch_size": "auto", "bf16": {"enabled": "auto"}}', "DeepSpeed"),
        (
            "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\nmixed_precision: bf16\n",
            "accel",
        ),
        ('{"tokenizer_class": "LlamaTokenizer", "model_max_length": 4096}', "tokenizer"),
        ('{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "transformers_version": "4.57.1"}', "generation"),
    ],
)
def test_what_is_no_run_is_named_for_what_it_is(text: str, name: str) -> None:
    with pytest.raises(UnreadableConfigError) as caught:
        read(text)
    assert name in caught.value.problems[0].message


def test_a_request_with_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text("model: Qwen/Qwen3-8B\nmethod: full\nbatch_size: 8\nmax_seq_len: 8192\n")
    result = invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 2
    assert "batch_size: unknown key" in result.stderr
    assert "did you mean max_length?" in result.stderr


def test_a_trainers_keys_beside_model_are_no_fitproof_request() -> None:
    assert read("model: Qwen/Qwen3-0.6B\ncutoff_len: 32768\nmicro_batch_size: 64\n").trainer.id == "llama-factory-v1"


COMMAND = """
CUDA_VISIBLE_DEVICES=0 llamafactory-cli train \\
    --stage sft --do_train True --model_name_or_path Qwen/Qwen2.5-7B \\
    --finetuning_type lora --lora_target q_proj,v_proj --cutoff_len=1024 --bf16 True --packing
"""


def test_a_trainers_command_line_is_read_as_its_settings_and_given_back_as_it_was() -> None:
    imported = read(COMMAND, gpu="l40s")
    assert imported.trainer.id == "llama-factory"
    assert imported.document["lora"]["target_modules"] == ["q_proj", "v_proj"]
    assert imported.document["training"]["max_length"] == 1024
    assert imported.not_planned == ()
    change = {"training.max_length": 512}
    assert imported.edited(change) == (COMMAND, list(change))


def test_a_program_is_named_and_never_run() -> None:
    with pytest.raises(UnreadableConfigError) as caught:
        read('from peft import LoraConfig\nlora_config = LoraConfig(r=16, target_modules=["q_proj"])\n')
    assert "Python program" in caught.value.problems[0].message


def test_the_terminal_names_a_fault_by_the_files_own_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text((FOLDER / BASES["axolotl"]).read_text().replace("optimizer: ", "optimizer: lomo #"))
    result = invoke(app, ["plan", str(path), "l40s"])
    assert result.exit_code == 2
    assert "  optimizer: lomo is not planned: it updates weights inside the backward pass" in result.stderr


def test_a_file_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    result = invoke(app, ["plan", str(tmp_path / "run.yml"), "l40s"])
    assert result.exit_code == 2
    assert "run.yml is not there" in result.stderr


def with_key(trainer: Trainer, key: str, value: object) -> dict[str, Any]:
    """The dialect's base file with one key more, inside its section if it has one."""
    config: dict[str, Any] = json.loads(json.dumps(load((FOLDER / BASES[trainer.id]).read_text()).config, default=str))
    section, _, name = key.partition(".")
    if name and section in trainer.sections:
        config[section] = {**(config.get(section) or {}), name: value}
    else:
        config[key] = value
    return config


# Each names a stack, an objective or how many cards, and is planned as such unless something else is in its way.
PLANNED_WHERE_THEY_CAN_BE = {
    ("trl", "unsloth"), ("trl", "num_generations"), ("axolotl", "reward_model"),
    *((trainer.id, "num_processes") for trainer in TRAINERS),
}  # fmt: skip
EFFECTS = [
    (trainer.id, key.replace("*", "anything"))
    for trainer in TRAINERS
    for key in sorted(trainer.ignored.moves_memory)
    if (trainer.id, key) not in PLANNED_WHERE_THEY_CAN_BE
]
VALUES = st.one_of(
    st.just(True), st.integers(2, 64), st.sampled_from(["lm_head", "auto", "sigmoid"]), st.just(["embed_tokens"]),
    st.just({"stage": 3}),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(EFFECTS), VALUES)
def test_no_import_with_a_key_that_moves_memory_and_was_not_planned_exits_0(
    tmp_path: Path, chosen: tuple[str, str], value: object
) -> None:
    trainer = next(trainer for trainer in TRAINERS if trainer.id == chosen[0])
    effect = trainer.ignored.effect(chosen[1])
    if effect is None or effect.spares(value):
        return
    path = tmp_path / "run.json"
    path.write_text(json.dumps(with_key(trainer, chosen[1], value)))
    result = invoke(app, ["plan", str(path), "b200", "--json"])
    assert result.exit_code in {1, 2, 3}
    if result.exit_code == 3:
        assert chosen[1] in {item["key"] for item in json.loads(result.stdout)["not_planned"]}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(BASES)), st.from_regex(r"\A[a-z]{3,12}_[a-z]{3,12}\Z"), VALUES)
def test_no_import_with_a_key_that_nobody_knows_exits_0(tmp_path: Path, kind: str, key: str, value: object) -> None:
    trainer = next(trainer for trainer in TRAINERS if trainer.id == kind)
    if trainer.knows(key):
        return
    path = tmp_path / "run.json"
    path.write_text(json.dumps(with_key(trainer, key, value)))
    assert invoke(app, ["plan", str(path), "b200"]).exit_code in {1, 2, 3}


def test_limits_of_a_file_with_a_remainder_are_no_promise(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text("model_name_or_path: gpt2\nfinetuning_type: full\nstage: sft\ndeepspeed: zero3.json\n")
    result = invoke(app, ["max", str(path), "l40s", "--json"])
    assert result.exit_code == 3
    assert "as one card alone" in result.stderr
