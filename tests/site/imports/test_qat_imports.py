"""Quantization-aware training is named wherever it is asked for: no such run simply fits."""

from pathlib import Path

import pytest

from app.cli import app
from app.imports import read
from tests.site.terminal import invoke

AXOLOTL = """
base_model: Qwen/Qwen2.5-0.5B
datasets: [{path: tatsu-lab/alpaca, type: alpaca}]
sequence_len: 512
micro_batch_size: 1
sample_packing: true
bf16: true
optimizer: adamw_torch
qat: {weight_dtype: int4, group_size: 32, fake_quant_after_n_steps: 1000}
"""
TORCHTUNE = """
model: {_component_: torchtune.models.qwen2_5.qwen2_5_0_5b}
tokenizer: {_component_: torchtune.models.qwen2_5.qwen2_5_tokenizer, max_seq_len: 512}
dataset: {_component_: torchtune.datasets.alpaca_dataset, packed: true}
batch_size: 1
optimizer: {_component_: torch.optim.AdamW, lr: 2e-5}
quantizer: {_component_: torchtune.training.quantization.Int8DynActInt4WeightQATQuantizer, groupsize: 256}
fake_quant_after_n_steps: 1000
"""
UNSLOTH = """
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Qwen2.5-0.5B", max_seq_length=512, load_in_4bit=False)
model = FastLanguageModel.get_peft_model(model, r=16, qat_scheme="fp8-int4")
trainer = SFTTrainer(model=model, args=SFTConfig(per_device_train_batch_size=1, bf16=True, packing=True))
"""
UNSLOTH_FULL = """
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained(
    "unsloth/Qwen2.5-0.5B", max_seq_length=512, full_finetuning=True, qat_scheme="phone-deployment")
trainer = SFTTrainer(model=model, args=SFTConfig(per_device_train_batch_size=1, bf16=True, packing=True))
"""
TORCHAO = """
from torchao.quantization import Int4WeightOnlyConfig, quantize_
from torchao.quantization.qat import QATConfig
base = Int4WeightOnlyConfig(group_size=32)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype=torch.bfloat16)
quantize_(model, QATConfig(base, step="prepare"))
trainer = Trainer(model, TrainingArguments("out", per_device_train_batch_size=1, bf16=True))
trainer.train()
quantize_(model, QATConfig(base, step="convert"))
"""
QUANTIZER = TORCHAO.replace(
    'quantize_(model, QATConfig(base, step="prepare"))', "model = Int8DynActInt4WeightQATQuantizer().prepare(model)"
)
COMMAND = """accelerate launch train.py --model_name_or_path Qwen/Qwen2.5-0.5B --per_device_train_batch_size 1 \\
  --bf16 true --output_dir out --qat_scheme int4"""
DOORS = {
    "axolotl.yml": (AXOLOTL, {"qat"}), "torchtune.yml": (TORCHTUNE, {"quantizer", "fake_quant_after_n_steps"}),
    "unsloth.py": (UNSLOTH, {"qat_scheme"}), "unsloth-full.py": (UNSLOTH_FULL, {"qat_scheme"}),
    "torchao.py": (TORCHAO, {"qat"}), "quantizer.py": (QUANTIZER, {"qat"}), "command.sh": (COMMAND, {"qat_scheme"}),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_a_run_that_trains_fake_quantized_weights_is_tight_at_most(tmp_path: Path, door: str) -> None:
    text, keys = DOORS[door]
    path = tmp_path / door
    path.write_text(text)
    result = invoke(app, ["plan", str(path), "h100-sxm-80gb"])
    assert result.exit_code == 3
    assert "without quantization-aware training" in result.stdout
    named = {item.key for item in read(text, gpu="h100-sxm-80gb").not_planned if "fake-quantized copy" in item.why}
    assert named == keys


def test_axolotls_int4_weights_under_int8_activations_are_planned() -> None:
    text = AXOLOTL.replace("weight_dtype: int4", "weight_dtype: int4, activation_dtype: int8")
    imported = read(text, gpu="rtx-4090")
    assert imported.document["training"]["qat"] == {"group_size": 32}
    assert "qat" not in {item.key for item in imported.not_planned}
    adapted = read(text + "adapter: lora\nlora_r: 8\nlora_target_linear: true\n", gpu="rtx-4090")
    assert "qat" in {item.key for item in adapted.not_planned}


def test_a_model_that_is_only_converted_is_not_trained_fake_quantized() -> None:
    converted = TORCHAO.replace('quantize_(model, QATConfig(base, step="prepare"))\n', "")
    assert "qat" not in {item.key for item in read(converted, gpu="rtx-4090").not_planned}


def test_a_scheme_that_no_literal_says_is_named_as_the_script_has_it() -> None:
    text = UNSLOTH.replace('"fp8-int4"', "cli.scheme")
    assert "cli.scheme" in {item.value for item in read(text, gpu="rtx-4090").not_planned}
