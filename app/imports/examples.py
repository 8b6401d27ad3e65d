"""One configuration for each dialect, as a person would keep it: what the empty page offers to start from."""

from dataclasses import dataclass

_AXOLOTL = """\
# QLoRA on one card
base_model: meta-llama/Llama-3.1-8B
load_in_4bit: true
adapter: qlora

datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
output_dir: ./outputs/qlora

sequence_len: 8192        # the longest conversations
sample_packing: true

lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true

micro_batch_size: 2       # raise me
gradient_accumulation_steps: 4
num_epochs: 3
optimizer: paged_adamw_8bit
learning_rate: 0.0002

bf16: auto
gradient_checkpointing: true
flash_attention: true
"""

_LLAMA_FACTORY = """\
### model
model_name_or_path: Qwen/Qwen2.5-7B
quantization_bit: 4

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,alpaca_en_demo
template: qwen
cutoff_len: 4096
packing: true

### train
per_device_train_batch_size: 4  # as in the paper
gradient_accumulation_steps: 2
learning_rate: 1.0e-4
num_train_epochs: 3.0
bf16: true
output_dir: saves/qwen2.5-7b/lora
"""

_TRL = """\
# trl sft --config this.yaml
model_name_or_path: Qwen/Qwen2.5-7B
dtype: bfloat16
dataset_name: trl-lib/Capybara

load_in_4bit: true
use_bnb_nested_quant: true
use_peft: true
lora_r: 16
lora_alpha: 32
lora_target_modules: all-linear

max_length: 4096
packing: true
per_device_train_batch_size: 4
gradient_accumulation_steps: 4
optim: paged_adamw_8bit
learning_rate: 2.0e-4
output_dir: out
"""

_TRAINING_ARGUMENTS = """\
{
  "model_name_or_path": "HuggingFaceTB/SmolLM2-1.7B",
  "output_dir": "out",
  "per_device_train_batch_size": 2,
  "gradient_accumulation_steps": 8,
  "gradient_checkpointing": true,
  "optim": "adamw_torch",
  "bf16": true,
  "num_train_epochs": 1
}
"""

_CHAPTER = """\
qlora_config = {
    "model_name": "meta-llama/Llama-2-13b-hf",
    "load_in_4bit": True,
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_compute_dtype": torch.bfloat16,
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "v_proj"],
}
"""

_MODEL_CONFIG = """\
{
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 2048,
  "intermediate_size": 5632,
  "num_hidden_layers": 22,
  "num_attention_heads": 32,
  "num_key_value_heads": 4,
  "vocab_size": 32000,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16"
}
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A configuration under the name that a link gives it."""

    name: str
    text: str


EXAMPLES = {
    "axolotl": Example("Axolotl", _AXOLOTL),
    "llama-factory": Example("LLaMA-Factory", _LLAMA_FACTORY),
    "trl": Example("TRL", _TRL),
    "training-arguments": Example("TrainingArguments", _TRAINING_ARGUMENTS),
    "chapter": Example("the dictionary of 412: QLoRA", _CHAPTER),
    "model-config": Example("a model’s config.json", _MODEL_CONFIG),
}
