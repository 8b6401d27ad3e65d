"""Configurations as their trainers' users write them."""

AXOLOTL = """\
# QLoRA on one card
base_model: meta-llama/Llama-3.1-8B
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer

load_in_8bit: false
load_in_4bit: true  # the Q in QLoRA
strict: false

datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.05
output_dir: ./outputs/qlora-out

adapter: qlora
lora_model_dir:

sequence_len: 4096
sample_packing: true
pad_to_sequence_len: true

lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules:
lora_target_linear: true

gradient_accumulation_steps: 4
micro_batch_size: 2   # raise me
num_epochs: 4
optimizer: "paged_adamw_32bit"
lr_scheduler: cosine
learning_rate: 0.0002

bf16: auto
tf32: false
gradient_checkpointing: true
flash_attention: true

warmup_ratio: 0.1
evals_per_epoch: 4
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
"""

AXOLOTL_FULL = """\
base_model: HuggingFaceTB/SmolLM2-135M
sequence_len: 1024
micro_batch_size: 4
optimizer: adamw_torch_fused
bf16: true
sdp_attention: true
plugins:
  - axolotl.integrations.liger.LigerPlugin
liger_fused_linear_cross_entropy: true
deepspeed: deepspeed_configs/zero1.json
"""

LLAMA_FACTORY = """\
### model
model_name_or_path: meta-llama/Meta-Llama-3-8B
quantization_bit: 4  # choices: [8 (bnb/hqq/eetq), 4 (bnb/hqq)]
quantization_method: bnb
double_quantization: false
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000

### output
output_dir: saves/llama3-8b/lora/sft
logging_steps: 10

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
bf16: true
ddp_timeout: 180000000
"""

LLAMA_FACTORY_ATTENTION = """\
model_name_or_path: Qwen/Qwen2.5-7B
stage: sft
finetuning_type: lora
lora_rank: 16
lora_target: q_proj,v_proj
template: qwen
flash_attn: fa2
disable_gradient_checkpointing: true
enable_liger_kernel: true
optim: adamw_8bit
per_device_train_batch_size: 2
fp16: true
"""

TRL_YAML = """\
# trl sft --config this.yaml
model_name_or_path: Qwen/Qwen2.5-7B
dataset_name: trl-lib/Capybara
load_in_4bit: true
use_bnb_nested_quant: true
dtype: bfloat16
use_peft: true
lora_r: 16
lora_alpha: 32
lora_target_modules: [q_proj, k_proj, v_proj, o_proj]
max_length: 2048
packing: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
learning_rate: 2.0e-4
optim: paged_adamw_8bit
output_dir: out
"""

TRAINING_ARGUMENTS = """\
{
  "model_name_or_path": "HuggingFaceTB/SmolLM2-135M",
  "output_dir": "out",
  "per_device_train_batch_size": 4,
  "gradient_checkpointing": true,
  "gradient_checkpointing_kwargs": {"use_reentrant": true},
  "optim": "adamw_torch",
  "bf16": true,
  "num_train_epochs": 1,
  "save_strategy": "epoch"
}
"""

CHAPTER = """\
qlora_config = {
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

MODEL_CONFIG = """\
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

EVERY = {
    "axolotl": AXOLOTL, "axolotl full": AXOLOTL_FULL, "llama-factory": LLAMA_FACTORY,
    "llama-factory attention": LLAMA_FACTORY_ATTENTION, "trl": TRL_YAML, "training arguments": TRAINING_ARGUMENTS,
    "chapter": CHAPTER, "config.json": MODEL_CONFIG,
}  # fmt: skip
