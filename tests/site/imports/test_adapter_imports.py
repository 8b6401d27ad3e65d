"""What people write in a LoraConfig beside rank and targets, in each trainer's words."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli import app
from app.imports import read
from tests.site.terminal import invoke

ENDS = ["embed_tokens", "lm_head"]
LLAMA_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B
finetuning_type: lora
lora_target: all
additional_target: embed_tokens,lm_head
packing: true
per_device_train_batch_size: 1
bf16: true
"""
AXOLOTL = """
base_model: meta-llama/Meta-Llama-3-8B
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
lora_modules_to_save: [embed_tokens, lm_head]
sequence_len: 2048
sample_packing: true
"""
TRL = "trl sft --model_name_or_path meta-llama/Meta-Llama-3-8B --use_peft --lora_modules_to_save embed_tokens lm_head"
SCRIPT = """
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
config = LoraConfig(r=8, target_modules="all-linear", modules_to_save=["embed_tokens", "lm_head"])
trainer = SFTTrainer("meta-llama/Meta-Llama-3-8B", args=SFTConfig(max_length=1024), peft_config=config)
"""
OUMI = """
model: {model_name: meta-llama/Meta-Llama-3-8B, model_max_length: 2048}
training: {trainer_type: TRL_SFT, use_peft: true}
peft: {lora_r: 8, lora_modules_to_save: [embed_tokens, lm_head]}
"""
ADAPTER = '''{"base_model_name_or_path": "meta-llama/Meta-Llama-3-8B", "peft_type": "LORA", "r": 8, "lora_alpha": 16,
 "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": false}'''


def lora_of(config: str) -> dict[str, Any]:
    imported = read(config, gpu="h100-sxm-80gb")
    assert [item.key for item in imported.not_planned] == []
    lora: dict[str, Any] = imported.document["lora"]
    return lora


@pytest.mark.parametrize("config", [AXOLOTL, TRL, SCRIPT, ADAPTER], ids=["axolotl", "trl", "script", "adapter"])
def test_whole_modules_are_planned_in_every_trainers_words(config: str) -> None:
    lora = lora_of(config)
    assert lora["modules_to_save"] == ENDS
    assert "modules_to_save_dtype" not in lora


def test_oumi_has_its_own_word() -> None:
    assert read(OUMI, gpu="h100-sxm-80gb").document["lora"]["modules_to_save"] == ENDS


def test_llama_factory_turns_the_copies_to_float32_unless_it_trains_in_pure_bf16() -> None:
    assert lora_of(LLAMA_FACTORY)["modules_to_save_dtype"] == "float32"
    pure = LLAMA_FACTORY.replace("bf16: true", "pure_bf16: true")
    assert "modules_to_save_dtype" not in read(pure, gpu="h100-sxm-80gb").document["lora"]


def test_an_imported_plan_has_an_address_that_says_the_same(site: httpx.Client) -> None:
    answer = site.post("/api/v1/imports", json={"config": LLAMA_FACTORY, "gpu": "h100-sxm-80gb"}).json()
    page = site.post("/import", data={"config": LLAMA_FACTORY, "gpu": "h100-sxm-80gb"}).text
    address = page.split('class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "modules_to_save=embed_tokens,lm_head" in address
    again = site.get(f"/plan.json{address.removeprefix('/plan')}").json()
    assert again["peak_allocated_bytes"] == answer["plan"]["peak_allocated_bytes"]


def test_a_problem_is_said_at_the_files_own_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text(LLAMA_FACTORY.replace("embed_tokens,lm_head", "wte"))
    result = invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 2
    assert "  additional_target: no module's name ends with wte" in result.stderr


def test_the_terminal_takes_names_with_commas() -> None:
    given = ["plan", "llama 3.1 8b", "h100-sxm-80gb", "--modules-to-save", "embed_tokens,lm_head", "--all"]
    assert "trained copies of whole modules" in invoke(app, given).stdout


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ('"rank_pattern": {"q_proj": 64}', "rank_pattern", {"q_proj": 64}),
        ('"alpha_pattern": {"q_proj": 8}', "alpha_pattern", {"q_proj": 8}),
        ('"exclude_modules": ["k_proj"]', "exclude_modules", ["k_proj"]),
        ('"init_lora_weights": "pissa_niter_16"', "init_lora_weights", "pissa_niter_16"),
        ('"fan_in_fan_out": false', "fan_in_fan_out", False),
        ('"layers_to_transform": [30, 31], "layers_pattern": "layers"', "layers_to_transform", [30, 31]),
        ('"trainable_token_indices": [128000, 128001]', "trainable_token_indices", [128000, 128001]),
        ('"bias": "none"', "bias", "none"),
        ('"target_parameters": ["mlp.experts.down_proj"]', "target_parameters", ["mlp.experts.down_proj"]),
    ],
)
def test_an_adapters_own_options_are_planned(more: str, field: str, value: object) -> None:
    assert lora_of(ADAPTER.replace('"ensure_weight_tying"', f'{more}, "ensure_weight_tying"'))[field] == value


def test_first_values_that_need_data_are_left_out_with_the_reason() -> None:
    config = AXOLOTL + "peft_init_lora_weights: eva\n"
    (item,) = read(config, gpu="h100-sxm-80gb").not_planned
    assert item.key == "peft_init_lora_weights"
    assert item.why.startswith("eva is not planned: it runs the model over data before the adapters are made")


def test_llama_factorys_pissa_is_pefts() -> None:
    pissa = LLAMA_FACTORY + "pissa_init: true\n"
    assert lora_of(pissa)["init_lora_weights"] == "pissa_niter_16"
    assert lora_of(pissa + "pissa_iter: -1\n")["init_lora_weights"] == "pissa"


def test_a_scripts_lora_config_says_the_same() -> None:
    script = SCRIPT.replace("r=8,", 'r=8, rank_pattern={"q_proj": 64}, init_lora_weights="gaussian",')
    lora = lora_of(script)
    assert (lora["rank_pattern"], lora["init_lora_weights"]) == ({"q_proj": 64}, "gaussian")


def test_axolotls_layers_are_chosen_of_the_names_that_it_lists() -> None:
    lora = lora_of(AXOLOTL.replace("lora_modules_to_save: [embed_tokens, lm_head]", "peft_layers_to_transform: [31]"))
    assert (lora["layers_to_transform"], lora["target_modules"]) == ([31], "linear-names")


@pytest.mark.parametrize(
    "config",
    [
        TRL.replace("modules_to_save embed_tokens lm_head", "target_parameters mlp.experts.down_proj"),
        SCRIPT.replace("modules_to_save=", "target_parameters=['mlp.experts.down_proj'], exclude_modules="),
        OUMI.replace("modules_to_save: [embed_tokens, lm_head]", "target_parameters: [mlp.experts.down_proj]"),
    ],
    ids=["trl", "script", "oumi"],
)
def test_parameters_of_experts_are_planned_in_every_trainers_words(config: str) -> None:
    mixture = config.replace("meta-llama/Meta-Llama-3-8B", "openai/gpt-oss-20b")
    lora = read(mixture, gpu="h100-sxm-80gb").document["lora"]
    assert lora["target_parameters"] == ["mlp.experts.down_proj"]


def test_the_terminal_and_an_address_take_each_option_of_lora(site: httpx.Client) -> None:
    more = ["--targets", "q_proj,v_proj", "--layers-to-transform", "28-31", "--rank-pattern", '{"q_proj": 64}']
    result = invoke(app, ["plan", "llama 3.1 8b", "h100-sxm-80gb", *more, "--json"])
    answer = json.loads(result.stdout)
    assert answer["request"]["lora"]["layers_to_transform"] == [28, 29, 30, 31]
    assert answer["request"]["lora"]["rank_pattern"] == {"q_proj": 64}
    query = {"target_modules": "q_proj,v_proj", "layers_to_transform": "28-31", "rank_pattern": '{"q_proj": 64}'}
    again = site.get("/plan.json", params={"model": answer["model"]["id"], "gpu": "h100-sxm-80gb", **query}).json()
    assert again["peak_allocated_bytes"] == answer["peak_allocated_bytes"]


def test_the_terminal_says_how_layers_are_written() -> None:
    result = invoke(app, ["plan", "llama 3.1 8b", "h100-sxm-80gb", "--layers-to-transform", "last"])
    assert result.exit_code == 2
    assert "lora.layers_to_transform: write numbers with commas, or spans of them, such as 0,1,8-15" in result.stderr


def test_a_file_whose_copies_no_formula_follows_is_a_plan_that_never_simply_fits(
    site: httpx.Client, tmp_path: Path
) -> None:
    config = AXOLOTL.replace("[embed_tokens, lm_head]", "[embed_tokens, model.layers.31.mlp]")
    answer = site.post("/api/v1/imports", json={"config": config, "gpu": "h100-sxm-80gb"}).json()
    assert answer["problems"] == []
    assert answer["plan"]["verdict"] == "tight"
    (item,) = answer["plan"]["not_planned"]
    assert item["key"] == "lora_modules_to_save"
    assert "model.layers.31.mlp is of one layer" in item["why"]
    path = tmp_path / "run.yml"
    path.write_text(config)
    result = invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 3
    assert "without lora_modules_to_save" in result.stdout


def test_trained_biases_of_norms_are_named_as_left_out(site: httpx.Client) -> None:
    config = ADAPTER.replace('"ensure_weight_tying"', '"bias": "all", "ensure_weight_tying"')
    without = site.post("/api/v1/imports", json={"config": config, "gpu": "h100-sxm-80gb"}).json()
    assert without["plan"]["not_planned"] == []
    star = config.replace("meta-llama/Meta-Llama-3-8B", "bigcode/starcoder2-7b")
    (item,) = site.post("/api/v1/imports", json={"config": star, "gpu": "h100-sxm-80gb"}).json()["plan"]["not_planned"]
    assert item["key"] == "bias"
    assert "all trains model.layers.*.input_layernorm.bias, too" in item["why"]
    assert "which is not planned; write lora_only or none" in item["why"]
