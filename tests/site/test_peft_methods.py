"""PEFT's methods beside LoRA at every door: trainers' files, the terminal, an address, a request."""

import json
from typing import Any

import httpx
import pytest

from app.cli import app
from app.imports import read
from planner import plan
from planner.errors import FitproofError
from planner.request.schema import Request
from tests.site.terminal import invoke

GPU = "h100-sxm-80gb"
LLAMA = "meta-llama/Meta-Llama-3-8B"
ADAPTER = {"peft_type": "VERA", "base_model_name_or_path": LLAMA, "target_modules": ["q_proj", "v_proj"], "r": 256}
SCRIPT = f"""
from peft import {{name}}, get_peft_model
from trl import SFTConfig, SFTTrainer
trainer = SFTTrainer(
    model="{LLAMA}", args=SFTConfig(max_length=512, per_device_train_batch_size=1),
    peft_config={{name}}(target_modules=["k_proj", "v_proj", "down_proj"]{{more}}),
)
trainer.train()
"""
SWIFT = f"model: {LLAMA}\ntuner_type: vera\nmax_length: 2048\ntorch_dtype: bfloat16\nvera_rank: 64\nlora_rank: 8\n"
OFT = f"model_name_or_path: {LLAMA}\nfinetuning_type: oft\noft_target: q_proj\noft_block_size: 64\nbf16: true\n"


def lora_of(config: str) -> dict[str, Any]:
    """The part of a read request that says the adapter; the file leaves nothing else out."""
    imported = read(config, gpu=GPU)
    assert imported.not_planned == ()
    lora: dict[str, Any] = imported.document["lora"]
    return lora


def test_an_adapters_file_says_which_method_it_is_and_its_options() -> None:
    vera = lora_of(json.dumps({**ADAPTER, "vera_dropout": 0.1, "d_initial": 0.1, "save_projection": True}))
    assert (vera["peft_type"], vera["r"], vera["lora_dropout"]) == ("VERA", 256, 0.1)
    inputs = {"peft_type": "IA3", "feedforward_modules": ["v_proj"], "init_ia3_weights": True}
    assert lora_of(json.dumps({**ADAPTER, **inputs}))["feedforward_modules"] == ["v_proj"]
    blocks = {"peft_type": "OFT", "oft_block_size": 64, "r": 0, "use_cayley_neumann": True}
    assert lora_of(json.dumps({**ADAPTER, **blocks}))["oft_block_size"] == 64


def test_what_no_formula_follows_of_a_method_is_left_out_by_its_key() -> None:
    shared = {"peft_type": "OFT", "block_share": True, "use_cayley_neumann": False, "oft_block_size": 0, "r": 8}
    imported = read(json.dumps({**ADAPTER, **shared}), gpu=GPU)
    assert {item.key for item in imported.not_planned} == {"block_share", "use_cayley_neumann", "oft_block_size"}
    (item,) = read(json.dumps({**ADAPTER, "peft_type": "LOHA"}), gpu=GPU).not_planned
    assert (item.key, item.in_headline) == ("peft_type", "as LoRA")


@pytest.mark.parametrize(
    ("name", "more", "wanted"),
    [
        ("VeraConfig", "", {"peft_type": "VERA", "r": 256, "lora_dropout": 0.0}),
        ("VeraConfig", ", r=64, vera_dropout=0.1", {"peft_type": "VERA", "r": 64, "lora_dropout": 0.1}),
        ("IA3Config", ', feedforward_modules=["v_proj"]', {"peft_type": "IA3", "feedforward_modules": ["v_proj"]}),
        ("AdaLoraConfig", ", init_r=24, target_r=8, r=4, total_step=900", {"peft_type": "ADALORA", "r": 24}),
        ("OFTConfig", ", oft_block_size=16", {"peft_type": "OFT", "oft_block_size": 16}),
    ],
)
def test_a_scripts_configuration_is_read_as_its_method(name: str, more: str, wanted: dict[str, Any]) -> None:
    lora = lora_of(SCRIPT.format(name=name, more=more))
    assert {key: lora.get(key) for key in wanted} == wanted


def test_a_script_with_a_method_that_is_not_planned_trains_adapters_and_says_so() -> None:
    imported = read(SCRIPT.format(name="BOFTConfig", more=""), gpu=GPU)
    assert imported.document["method"] == "lora"
    assert [item.key for item in imported.not_planned] == ["peft_type"]


def test_ms_swifts_vera_and_llama_factorys_oft_are_planned() -> None:
    assert {key: lora_of(SWIFT)[key] for key in ("peft_type", "r")} == {"peft_type": "VERA", "r": 64}
    assert lora_of(OFT) == {"peft_type": "OFT", "oft_block_size": 64, "target_modules": ["q_proj"]}


def test_the_terminal_and_an_address_take_the_method(site: httpx.Client) -> None:
    result = invoke(app, ["plan", "llama 3.1 8b", GPU, "--peft-type", "oft", "--oft-block-size", "64", "--json"])
    answer = json.loads(result.stdout)
    assert (answer["request"]["lora"]["peft_type"], answer["request"]["lora"]["oft_block_size"]) == ("OFT", 64)
    query = {"model": answer["model"]["id"], "gpu": GPU, "peft_type": "OFT", "oft_block_size": "64"}
    again = site.get("/plan.json", params=query).json()
    assert again["request"]["lora"] == answer["request"]["lora"]
    page = site.get("/plan", params=query).text
    assert "OFT rotations" in page


def test_vectors_hold_a_tenth_of_what_loras_matrices_do() -> None:
    def gradient_bytes(name: str) -> int:
        answer = plan(Request.parse({"model": LLAMA, "gpu": GPU, "lora": {"peft_type": name}}))
        return sum(line.bytes for line in answer.ledger.lines if line.cause == "gradients")

    assert 10 * max(gradient_bytes("VERA"), gradient_bytes("IA3")) < gradient_bytes("LORA")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"lora": {"peft_type": "IA3", "use_dora": True, "lora_dropout": 0.1}}, "lora"),
        ({"lora": {"peft_type": "BOFT"}}, "lora.peft_type"),
        ({"lora": {"peft_type": "OFT"}, "stack": "unsloth"}, "stack"),
        ({"lora": {"peft_type": "IA3"}, "stack": "loop"}, "stack"),
        ({"lora": {"peft_type": "VERA"}, "quantization": {"quant_method": "hqq"}}, "lora.peft_type"),
        ({"lora": {"peft_type": "VERA"}, "fsdp": "full_shard", "gpus": 2, "method": "lora"}, "lora.peft_type"),
    ],
)
def test_what_a_method_cannot_be_asked_is_refused_at_its_field(more: dict[str, Any], field: str) -> None:
    with pytest.raises(FitproofError) as caught:
        Request.parse({"model": LLAMA, "gpu": GPU, **more})
    assert caught.value.problems[0].field.startswith(field)


def test_ia3_on_a_family_that_peft_does_not_know_says_what_to_write() -> None:
    request = {"model": "openai/gpt-oss-20b", "gpu": GPU, "lora": {"peft_type": "IA3", "target_modules": ["q_proj"]}}
    with pytest.raises(FitproofError) as caught:
        plan(Request.parse(request))
    (problem,) = caught.value.problems
    assert problem.field == "lora.feedforward_modules"
    assert "[down_proj], or []" in problem.message


def test_a_head_among_the_targets_is_refused() -> None:
    lora = {"peft_type": "VERA", "target_modules": ["q_proj", "lm_head"]}
    with pytest.raises(FitproofError) as caught:
        plan(Request.parse({"model": LLAMA, "gpu": GPU, "lora": lora}))
    assert "lm_head" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("peft_type", "label"), [("LORA", "LoRA rank"), ("ADALORA", "AdaLoRA rank"), ("VERA", "VeRA rank")]
)
def test_the_rank_is_asked_under_the_methods_name(site: httpx.Client, peft_type: str, label: str) -> None:
    page = site.get("/plan", params={"model": LLAMA, "gpu": GPU, "peft_type": peft_type}).text
    assert f">{label}</label>" in page


@pytest.mark.parametrize("peft_type", ["OFT", "IA3"])
def test_a_method_without_a_rank_asks_for_none_and_keeps_what_was_typed(site: httpx.Client, peft_type: str) -> None:
    page = site.get("/plan", params={"model": LLAMA, "gpu": GPU, "peft_type": peft_type, "lora_r": "64"}).text
    assert "rank</label>" not in page
    assert '<input type="hidden" name="lora_r" value="64">' in page
