"""Trainers' files as plans, and the plans' advice in the same files."""

import json
from contextlib import suppress
from itertools import product
from pathlib import Path

import httpx
import pytest

from app.imports import TRAINERS, read
from app.imports.rules import Trainer
from app.imports.sources.loading import load
from planner.errors import FitproofError
from planner.request.schema import Request
from tests.site.imports import configs

BASES = {
    "axolotl": configs.AXOLOTL, "llama-factory": configs.LLAMA_FACTORY, "trl": configs.TRL_YAML,
    "chapter": configs.CHAPTER, "model-config": configs.MODEL_CONFIG,
    "fitproof": '{"model": "gpt2", "gpu": "t4"}',
    **{
        name: (Path(__file__).parent / "dialects" / file).read_text()
        for name, file in {
            "ms-swift": "swift/lora.yaml", "unsloth-studio": "studio/lora_text.yaml", "autotrain": "autotrain/dpo.yml",
            "oumi": "oumi/lora.yaml", "torchtune": "torchtune/lora.yaml", "litgpt": "litgpt/nf4.yaml",
            "llama-factory-v1": "llama_factory_v1/lora.yaml", "adapter-config": "adapter/plain.json",
        }.items()
    },
}  # fmt: skip
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def request_of(text: str, **given: str) -> Request:
    return Request.parse(read(text, **given).document)


def test_axolotl() -> None:
    request = request_of(configs.AXOLOTL, gpu="rtx-4090")
    assert request.model == "meta-llama/Llama-3.1-8B"
    assert request.method == "qlora"
    assert request.quantization is not None
    assert request.quantization.bnb_4bit_quant_type == "nf4"
    assert request.quantization.bnb_4bit_use_double_quant
    assert (request.lora.r, request.lora.lora_alpha, request.lora.target_modules) == (32, 16, "all-linear")
    training = request.training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (2, 4)
    assert (training.max_length, training.optim) == (4096, "paged_adamw_32bit")
    assert training.attn_implementation == "flash_attention_2"
    assert training.gradient_checkpointing
    assert not training.padded


def test_axolotl_full_fine_tuning_with_liger_and_deepspeed() -> None:
    imported = read(configs.AXOLOTL_FULL, gpu="t4")
    request = Request.parse(imported.document)
    assert request.method == "full"
    assert (request.training.loss, request.training.attn_implementation) == ("liger", "sdpa")
    assert not request.training.gradient_checkpointing
    # The plugin patches what its keys name: here the loss alone.
    kernels = request.training.liger_kernel_config
    assert kernels is not None
    assert (kernels.rope, kernels.rms_norm, kernels.swiglu) == (False, False, False)
    assert [item.key for item in imported.reading.ignored if item.matters] == ["deepspeed", "sdp_attention"]


def test_llama_factory() -> None:
    imported = read(configs.LLAMA_FACTORY, gpu="rtx-4090")
    request = Request.parse(imported.document)
    assert request.method == "qlora"
    assert request.quantization is not None
    assert not request.quantization.bnb_4bit_use_double_quant
    assert (request.lora.r, request.lora.lora_alpha, request.lora.target_modules) == (8, 16, "all-linear")
    assert (request.training.max_length, request.training.gradient_checkpointing) == (2048, True)
    assert "lora.lora_alpha" in {item.field for item in imported.reading.assumed}
    assert not [item for item in imported.reading.ignored if "not known" in item.reason]


def test_llama_factory_computes_in_the_checkpoints_dtype_unless_told() -> None:
    text = "model_name_or_path: meta-llama/Llama-3.1-8B\nfinetuning_type: lora\nquantization_bit: 4\n"
    imported = read(text, gpu="rtx-4090")
    assert imported.document["quantization"]["bnb_4bit_compute_dtype"] == "bfloat16"
    assert "quantization.bnb_4bit_compute_dtype" in {item.field for item in imported.reading.assumed}
    half = read(text + "fp16: true\n", gpu="rtx-4090")
    assert half.document["quantization"]["bnb_4bit_compute_dtype"] == "float16"


def test_axolotl_has_no_default_rank() -> None:
    text = "base_model: meta-llama/Llama-3.1-8B\nadapter: lora\nlora_target_linear: true\nmicro_batch_size: 1\n"
    problems = read(text, gpu="rtx-4090").reading.contradictions
    assert [(problem.field, problem.message) for problem in problems] == [
        ("lora_r", "missing; Axolotl has no default rank")
    ]


def test_llama_factory_turns_switches_round() -> None:
    training = request_of(configs.LLAMA_FACTORY_ATTENTION, gpu="rtx-4090").training
    assert not training.gradient_checkpointing
    assert (training.attn_implementation, training.loss, training.optim) == ("flash_attention_2", "liger", "adamw_8bit")


def test_trl() -> None:
    request = request_of(configs.TRL_YAML, gpu="rtx-4090")
    assert (request.method, request.stack) == ("qlora", "trl")
    assert request.quantization is not None
    assert request.quantization.bnb_4bit_use_double_quant
    assert request.quantization.bnb_4bit_compute_dtype == "bfloat16"
    assert request.lora.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert request.training.gradient_checkpointing
    assert request.training.loss == "chunked"


def test_trls_discounted_loss_needs_all_logits() -> None:
    assert request_of(configs.TRL_YAML + "loss_type: dft\n", gpu="t4").training.loss == "full_logits"


def test_plain_training_arguments_are_the_plain_trainer() -> None:
    request = request_of(configs.TRAINING_ARGUMENTS, gpu="t4")
    assert (request.method, request.stack) == ("full", "trainer")
    assert request.training.use_reentrant


def test_the_chapters_dictionary_as_it_stands_in_a_notebook() -> None:
    request = request_of(configs.CHAPTER, gpu="t4", model="meta-llama/Llama-2-7b-hf")
    assert request.lora.target_modules == ("q_proj", "v_proj")
    assert request.quantization is not None
    assert request.quantization.bnb_4bit_compute_dtype == "bfloat16"


def test_a_models_own_config() -> None:
    request = request_of(configs.MODEL_CONFIG, gpu="t4")
    assert isinstance(request.model, dict)
    assert request.model["hidden_size"] == 2048


def test_a_byte_order_mark_is_no_key() -> None:
    assert read("\ufeffbase_model: x\nlora_r: 16\n").document["model"] == "x"


def test_a_byte_order_mark_is_no_word_of_a_command() -> None:
    line = "\ufefftrl sft --model_name_or_path x --max_length 512"
    assert read(line).document["training"]["max_length"] == 512


def test_words_that_pyyaml_takes_for_booleans_are_booleans_unless_quoted() -> None:
    config = read("base_model: x\nload_in_4bit: yes\nadapter: 'no'\n").reading.config
    assert (config["load_in_4bit"], config["adapter"]) == (True, "no")


def test_a_switch_that_moves_memory_is_listed_when_it_is_on() -> None:
    def matters(value: str) -> list[str]:
        return [item.key for item in read(f"base_model: x\ntorch_compile: {value}\n").reading.ignored if item.matters]

    assert "torch_compile" in matters("true")
    assert "torch_compile" not in matters("false")


@pytest.mark.parametrize(
    ("base", "more", "key"),
    [
        (configs.AXOLOTL.replace("load_in_8bit: false", "load_in_8bit: true"), "", "load_in_8bit"),
        (configs.AXOLOTL.replace("load_in_4bit: true", "load_in_4bit: false"), "", "adapter"),
        (configs.AXOLOTL, "sdp_attention: true\n", "sdp_attention"),
        (configs.AXOLOTL.replace("bf16: auto", "bf16: true"), "fp16: true\n", "fp16"),
        (configs.LLAMA_FACTORY.replace("finetuning_type: lora", "finetuning_type: full"), "", "quantization_bit"),
        (configs.TRL_YAML, "max_seq_length: 4096\n", "max_seq_length"),
        (configs.TRL_YAML.replace("use_peft: true", "use_peft: false"), "", "use_peft"),
    ],
)
def test_keys_that_cannot_both_be_meant_are_reported(base: str, more: str, key: str) -> None:
    assert key in {problem.field for problem in read(base + more).reading.contradictions}


def test_unknown_keys_are_listed() -> None:
    ignored = {item.key: item.reason for item in read(configs.AXOLOTL + "frobnicate: 3\n").reading.ignored}
    assert ignored["frobnicate"].startswith("not known to Fitproof")
    assert ignored["learning_rate"] == "does not move memory"


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "base_model: !!python/name:os.system ''",
        "%TAG ! tag:yaml.org,2002:python/\n---\nbase_model: !object/apply:os.system [x]",
        "base_model: !include /etc/passwd",
        BOMB,
        "base_model: &a [*a]",
        "base_model: x\nbase_model: y",
        '{"load_in_4bit": true, "load_in_4bit": false}',
        "- a\n- b",
        "just words",
        "",
        "[" * 10_000,
        "{" * 10_000,
        "a:\n" + "".join(" " * depth + "b:\n" for depth in range(1, 200)),
        "base_model: [1",
        "1: 2",
        "\x00\x01",
        "nothing: that, any: trainer",
        "base_model: x\n" + "# " + "long " * 2_000_000,
        "sequence_len: " + "9" * 10_000,
    ],
)
def test_what_is_malicious_or_broken_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(FitproofError) as caught:
        read(text)
    assert caught.value.problems[0].message


@pytest.mark.parametrize("name", configs.EVERY)
def test_the_api_plans_every_trainers_file(site: httpx.Client, name: str) -> None:
    body = {"config": configs.EVERY[name], "gpu": "rtx-4090"}
    if name == "chapter":
        body["model"] = "meta-llama/Llama-2-7b-hf"
    answer = site.post("/api/v1/imports", json=body)
    assert answer.status_code == 200
    document = answer.json()
    assert document["plan"]["verdict"] in ("fits", "tight", "does_not_fit"), document["problems"]
    assert document["contradictions"] == []


def test_the_api_says_what_is_missing_in_the_files_own_words(site: httpx.Client) -> None:
    text = configs.AXOLOTL.replace('optimizer: "paged_adamw_32bit"', "optimizer: lomo").replace("2   #", "0   #")
    document = site.post("/api/v1/imports", json={"config": text}).json()
    assert document["plan"] is None
    assert {"optimizer", "micro_batch_size", "gpu"} <= {problem["field"] for problem in document["problems"]}


def test_the_api_gives_the_file_back_with_advice_that_works(site: httpx.Client) -> None:
    text = configs.AXOLOTL.replace("sequence_len: 4096", "sequence_len: 16384").replace("32bit", "8bit")
    first = site.post("/api/v1/imports", json={"config": text, "gpu": "rtx-4090"}).json()
    assert first["plan"]["verdict"] != "fits"
    edited = first["edited"]
    assert "# raise me" in edited["text"]
    again = site.post("/api/v1/imports", json={"config": edited["text"], "gpu": "rtx-4090"}).json()
    # What no file has a key for is told beside it.
    assert edited["left"] in ([], ["training.expandable_segments"])
    request = again["request"]
    request["training"]["expandable_segments"] = bool(edited["left"])
    assert site.post("/api/v1/plans", json=request).json()["verdict"] == edited["verdict"]


def test_the_api_refuses_safely(site: httpx.Client) -> None:
    assert site.post("/api/v1/imports", json={"config": BOMB}).status_code == 422
    assert site.post("/api/v1/imports", json={"config": "x" * 10_000_000}).status_code == 413
    assert site.post("/api/v1/imports", json={"config": ""}).status_code == 422
    assert site.post("/api/v1/imports", json={"text": "x"}).status_code == 422
    assert site.post("/api/v1/imports", json={"config": 5}).status_code == 422


def test_the_page_takes_a_file_as_well_as_text(site: httpx.Client) -> None:
    upload = {"file": ("axolotl.yml", configs.AXOLOTL.encode(), "application/yaml")}
    answer = site.post("/import", data={"gpu": "rtx-4090"}, files=upload)
    assert answer.status_code == 200
    assert "Read as Axolotl" in answer.text


def test_the_page_shows_what_is_wrong_and_keeps_the_text(site: httpx.Client) -> None:
    answer = site.post("/import", data={"config": "just words", "gpu": "t4"})
    assert answer.status_code == 422
    assert 'id="config-error"' in answer.text
    assert "just words</textarea>" in answer.text


# What no trainer means by any of its keys.
STRANGE: tuple[object, ...] = (
    -1, 10**30, 1.5, "", "x", [], [1], ["a", ["b"]], {}, {"a": 1}, [None], True, "q_proj,v_proj",
    {"use_reentrant": "x"},
)  # fmt: skip


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.id)
def test_a_strange_value_of_any_key_is_a_sentence_and_never_a_crash(trainer: Trainer) -> None:
    base = json.loads(json.dumps(load(BASES[trainer.id]).config, default=str))
    keys = {rule.key for rule in trainer.rules} | trainer.handled | set(trainer.ignored.names) | trainer.signature
    for key, value in product(sorted(keys), STRANGE):
        with suppress(FitproofError):
            Request.parse(read(json.dumps(base | {key: value}), gpu="t4").document)
