"""Kinds of files and commands that people bring, each with its right outcome: a plan and what it leaves out, or the
sentence of its refusal. Facts of the trainers: their own argument classes, which the dialects' files name.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from app.imports import UnreadableConfigError, read
from planner.answer.plan import Plan, plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from planner.units import GIB

SMALL = "Qwen/Qwen3-0.6B"


def planned(text: str, gpu: str = "l40s") -> Plan:
    imported = read(text, gpu=gpu)
    return plan(Request.parse(imported.document), not_planned=imported.not_planned)


def axolotl(*more: str, model: str = SMALL) -> str:
    lines = [
        f"base_model: {model}", "adapter: qlora", "load_in_4bit: true", "lora_r: 32", "lora_alpha: 16",
        "lora_dropout: 0.05", "lora_target_linear: true", "sequence_len: 2048", "sample_packing: true",
        "micro_batch_size: 2", "gradient_checkpointing: true", "optimizer: adamw_bnb_8bit", "bf16: auto",
        "attn_implementation: flash_attention_2", *more,
    ]  # fmt: skip
    return "\n".join(lines)


CUT = "plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]"


@dataclass(frozen=True)
class Kind:
    """A file, the card it is planned for, the verdict and the keys that are left out of it."""

    text: str
    verdict: str = "fits"
    left_out: set[str] = field(default_factory=set)
    gpu: str = "l40s"


KINDS = {
    "an Axolotl file with Cut Cross-Entropy": Kind(axolotl(CUT)),
    "an Axolotl file with a plugin that nobody knows": Kind(
        axolotl("plugins: [axolotl.integrations.grokfast.GrokfastPlugin]"), "tight", {"plugins"}
    ),
    "an Axolotl file that feeds images": Kind(axolotl("processor_type: AutoProcessor"), "tight", {"processor_type"}),
    "Axolotl's quantized experts": Kind(
        axolotl("quantize_moe_experts: true", model="zai-org/GLM-4.7-Flash").replace(
            "lora_target_linear: true", "lora_target_modules: [o_proj]"
        ),
        "tight", {"quantize_moe_experts"},
    ),
    "LLaMA-Factory's preference training": Kind(
        f"model_name_or_path: {SMALL}\nstage: dpo\ncutoff_len: 512\nlora_target: all\n", "tight", {"stage"}
    ),
    "LLaMA-Factory that trains a vision tower": Kind(
        f"model_name_or_path: {SMALL}\nstage: sft\ncutoff_len: 512\nlora_target: all\nfreeze_vision_tower: false\n",
        "tight", {"freeze_vision_tower"},
    ),
    "blocks of weights in turn (BAdam)": Kind(
        f"model_name_or_path: {SMALL}\nstage: sft\ncutoff_len: 512\nfinetuning_type: full\nuse_badam: true\n",
        "tight", {"use_badam"},
    ),
    "a command of preference training": Kind(
        f"trl dpo --model_name_or_path {SMALL} --use_peft --max_length 512 --per_device_train_batch_size 1"
    ),
    "a script of preference training": Kind(
        f"python examples/scripts/rloo.py --model_name_or_path {SMALL} --use_peft --max_length 512 --output_dir out",
        "tight", {"command"},
    ),
    "a command over two cards": Kind(
        f"NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1 swift sft --model {SMALL} --max_length 512"
    ),
    "a command on one card": Kind(f"CUDA_VISIBLE_DEVICES=3 swift sft --model {SMALL} --max_length 512"),
    "a command whose model sees pictures": Kind(
        f"MAX_PIXELS=1003520 swift sft --model {SMALL} --max_length 512", "tight", {"MAX_PIXELS"}
    ),
    "ms-swift's quant_bits without a method": Kind(
        f"model: {SMALL}\ntrain_type: lora\nmax_length: 512\nquant_bits: 4\n", "tight", {"quant_bits"}
    ),
    "a task of AutoTrain that is no language model's": Kind(
        f"task: image-classification\nbase_model: {SMALL}\nproject_name: x\nparams:\n  batch_size: 2\n", "tight",
        {"task"},
    ),
    "a hub's copy of a model with sharding": Kind(
        f"model:\n  model_name: {SMALL}\n  model_max_length: 512\ntraining:\n  trainer_type: TRL_SFT\n"
        "fsdp:\n  enable_fsdp: true\n  forward_prefetch: true\n",
        "tight", {"fsdp.enable_fsdp", "fsdp.forward_prefetch"},
    ),
    "LLaMA-Factory with a model that sees": Kind(
        "model_name_or_path: google/gemma-3-4b-it\ndataset: mllm_demo\ntemplate: gemma3\nlora_target: all\n"
        "cutoff_len: 512\npacking: true\n",
        "tight", {"model_name_or_path"},
    ),
    "ms-swift with a model that sees": Kind(
        "swift sft --model google/gemma-3-4b-it --train_type lora --max_length 512", "tight", {"model"}
    ),
    "Axolotl with a kernel for attention sinks": Kind(
        axolotl(model="openai/gpt-oss-20b").replace("qlora", "lora").replace("load_in_4bit: true", "")
        .replace("flash_attention_2", "kernels-community/vllm-flash-attn3"),
        "tight", {"attn_implementation"}, gpu="b200",
    ),
    "Axolotl with a model that sees, and text": Kind(axolotl(model="google/gemma-3-4b-it")),
    "oumi's images": Kind(
        f"model:\n  model_name: {SMALL}\n  model_max_length: 512\ntraining:\n  trainer_type: TRL_SFT\n"
        "data:\n  train:\n    collator_name: vision_language_with_padding\n",
        "tight", {"data.train"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_each_kind_has_its_verdict_and_names_what_it_leaves_out(name: str) -> None:
    kind = KINDS[name]
    answer = planned(kind.text, kind.gpu)
    assert (answer.verdict, {item.key for item in answer.not_planned}) == (kind.verdict, kind.left_out)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "model_name_or_path: gpt2\ntemplate: default\ninfer_backend: huggingface\n",
            "inference, evaluation or export",
        ),
        ("model_name_or_path: gpt2\nexport_dir: out\nadapter_name_or_path: a\n", "inference, evaluation or export"),
        ("model:\n  model_name: gpt2\nengine: VLLM\ngeneration:\n  max_new_tokens: 8\n", "inference, evaluation"),
        ("resources:\n  cloud: gcp\nnum_nodes: 1\nsetup: pip install x\nrun: oumi train\n", "a SkyPilot job"),
        ("provider: modal\ngpu: l40s\ngpu_count: 1\nsecrets: [HF_TOKEN]\n", "a cloud's configuration"),
        (
            "model:\n  _component_: torchtune.models.llama2.llama2_7b\ncheckpointer:\n  checkpoint_dir: x\n",
            "torchtune recipe that trains nothing",
        ),
        ("swift infer --model Qwen/Qwen3-0.6B --stream true", "runs `swift infer`"),
        ("llamafactory-cli export --model_name_or_path gpt2 --export_dir out", "runs `llamafactory-cli export`"),
        ("megatron sft --model Qwen/Qwen3-0.6B --tensor_model_parallel_size 2", "runs `megatron sft`"),
    ],
)
def test_what_trains_nothing_is_refused_for_what_it_is(text: str, sentence: str) -> None:
    with pytest.raises(UnreadableConfigError) as refusal:
        read(text)
    assert sentence in refusal.value.problems[0].message


SCRIPT = f"""
model={SMALL}
nproc=2
swift sft --model $model --max_length 512 --gradient_accumulation_steps $(expr 16 / $nproc)
"""


def test_a_scripts_variables_and_quotients_are_put_in() -> None:
    document = read(SCRIPT, gpu="t4").document
    assert (document["model"], document["training"]["gradient_accumulation_steps"]) == (SMALL, 8)


DEFAULTS: list[tuple[str, dict[str, Any]]] = [
    # autotrain-advanced src/autotrain/trainers/clm/params.py, utils.py
    (
        f"task: llm-sft\nbase_model: {SMALL}\nproject_name: x\nparams:\n  peft: true\n",
        {"method": "qlora", "quantization.bnb_4bit_compute_dtype": "float16", "training.max_length": 1024},
    ),
    # oumi src/oumi/core/configs/params/peft_params.py
    (
        f"model:\n  model_name: {SMALL}\ntraining:\n  use_peft: true\npeft:\n  q_lora: true\n",
        {
            "quantization.bnb_4bit_quant_type": "fp4", "quantization.bnb_4bit_compute_dtype": "float32",
            "quantization.bnb_4bit_use_double_quant": False, "lora.r": 8, "stack.kbit_preparation": True,
        },
    ),
    # litgpt litgpt/finetune/lora.py: query and value are on, whatever else is named; utils.py: bf16-mixed
    (
        f"checkpoint_dir: checkpoints/{SMALL}\nlora_mlp: true\ntrain:\n  max_seq_length: 512\n",
        {
            "lora.target_modules": ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"], "lora.r": 8,
            "stack.model_dtype": "float32", "stack.autocast": "bfloat16",
            "training.gradient_accumulation_steps": 16,
        },
    ),
    # the same in a model that fuses its projections
    (
        "checkpoint_dir: checkpoints/tiiuae/falcon-7b\nlora_r: 8\ntrain:\n  max_seq_length: 512\n",
        {"lora.target_modules": ["query_key_value"]},
    ),
    # ms-swift swift/arguments/base_args/quant_args.py, model_args.py
    (
        f"model: {SMALL}\ntuner_type: lora\nquant_method: bnb\nquant_bits: 4\ntorch_dtype: float16\n",
        {
            "quantization.bnb_4bit_compute_dtype": "float32", "quantization.bnb_4bit_use_double_quant": True,
            "lora.r": 8, "lora.lora_alpha": 32, "stack.autocast": "float16",
        },
    ),
    # unsloth unsloth_cli/config.py
    (
        f"model: {SMALL}\ntraining:\n  training_type: lora\n  max_seq_length: 512\n",
        {"method": "qlora", "lora.r": 64, "training.per_device_train_batch_size": 2},
    ),
    # torchtune's builders: rank 8
    (
        "model:\n  _component_: torchtune.models.qwen3.lora_qwen3_0_6b_instruct\n  lora_attn_modules: [q_proj]\n"
        "tokenizer:\n  _component_: torchtune.models.qwen3.qwen3_tokenizer\n"
        "optimizer:\n  _component_: torch.optim.AdamW\n",
        {"model": "Qwen/Qwen3-0.6B", "method": "lora", "lora.r": 8, "training.gradient_checkpointing": False},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), DEFAULTS)
def test_what_a_file_leaves_out_is_what_its_trainer_does(text: str, expected: dict[str, Any]) -> None:
    reading = read(text, gpu="l40s").reading
    assert {path: reading.get(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("model", "ran_bytes"),
    [
        # axolotl-ai-cloud/axolotl examples/plano, a Qwen3-4B: about 5.1 GiB; which counter is not said.
        ("Qwen/Qwen3-4B", 5.1 * GIB),
        # examples/ministral3/think, a Ministral-3-3B whose tower is quantized, too: 4.76 GiB.
        ("mistralai/Ministral-3-3B-Instruct-2512", 4.76 * GIB),
    ],
)
def test_a_published_run_lies_in_the_range(model: str, ran_bytes: float) -> None:
    required = planned(axolotl(CUT, model=model)).required_bytes
    assert required.low < ran_bytes < required.high


def test_a_reason_names_no_key_that_the_file_has_not_and_the_dtype_that_it_has() -> None:
    full = f"base_model: {SMALL}\nsequence_len: 512\nmicro_batch_size: 1\nbf16: true\n"
    assert [item.key for item in read(full, gpu="l40s").not_planned] == ["attn_implementation"]
    assert [item.key for item in read(f"{full}sdp_attention: true\n", gpu="l40s").not_planned] == ["sdp_attention"]
    sft = f"model_name_or_path: {SMALL}\nmax_length: 512\nuse_peft: true\nlora_target_modules: all-linear\n"
    reasons = {item.field: item.reason for item in read(f"{sft}dtype: float32\n", gpu="l40s").reading.assumed}
    assert "dtype: float32" in reasons["stack"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        # stabilityai/stablelm-2-12b and EleutherAI/gpt-neox-20b, own configs: transformers builds both.
        ({"model_type": "stablelm", "qk_layernorm": True, "use_parallel_residual": True}, "try the dry run"),
        ({"model_type": "gpt_neox", "hidden_act": "gelu_fast"}, "'gelu_fast' is not known to the formulas; try"),
    ],
)
def test_a_config_with_a_key_that_no_formula_knows_is_answered_with_one_true_sentence(
    config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        plan(Request.parse({"model": config, "gpu": "h200"}))
    assert len(refusal.value.problems) == 1
    assert sentence in refusal.value.problems[0].message
