"""LoRA or QLoRA over two cards with FSDP, as Answer.AI measured it on real ones in March 2024; for torchrun.

Arguments: the model, `qlora` or `lora`, sequences a card, tokens a sequence, and `offload` for CPU offload. Rank 64 on
six of the linear layers, everything in bfloat16, reentrant checkpointing, AdamW; wrapped and stepped as its train.py
does (github.com/AnswerDotAI/fsdp_qlora, benchmarks_03_2024.md).
"""

import functools
import os
import sys

import torch
import torch.distributed as dist
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit, Params4bit
from huggingface_hub import snapshot_download
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel
from torch.distributed.fsdp.wrap import _or_policy, lambda_auto_wrap_policy, transformer_auto_wrap_policy
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer

model_id, method, batch, length, *offload = sys.argv[1:]
shape = (int(batch), int(length))
LAYERS = (LlamaDecoderLayer, MistralDecoderLayer)
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj", "gate_proj"]


def four_bit(model: torch.nn.Module) -> None:
    """Replace the decoder's linear layers, not the head."""
    for name, layer in list(model.named_modules()):
        if type(layer) is torch.nn.Linear and name != "lm_head":
            parent, _, child = name.rpartition(".")
            made = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=False,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
                quant_storage=torch.bfloat16,
            )
            setattr(model.get_submodule(parent), child, made)


def load(model: torch.nn.Module, folder: str, *, keep: bool) -> None:
    """Quantize each tensor on the card; the first rank keeps it in host memory, the others its shape."""
    for file in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
        with safe_open(os.path.join(folder, file), "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                parent, _, child = name.rpartition(".")
                module = model.get_submodule(parent)
                place = "cpu" if keep else "meta"
                value = tensors.get_tensor(name).to(torch.bfloat16)
                if isinstance(module, Linear4bit):
                    weight = Params4bit(
                        value, requires_grad=False, quant_type="nf4", quant_storage=torch.bfloat16, module=module
                    ).cuda()
                    state = {key: value for key, value in vars(weight).items() if key != "data"}
                    weight = Params4bit(weight.data.to(place), **state)
                else:
                    weight = torch.nn.Parameter(value.cuda().to(place), requires_grad=False)
                setattr(module, child, weight)


dist.init_process_group("nccl")
rank = dist.get_rank()
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
with init_empty_weights():
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_id), attn_implementation="sdpa")
    if method == "qlora":
        four_bit(model)
model.config.use_cache = False
load(model, snapshot_download(model_id), keep=rank == 0)
torch.cuda.empty_cache()
model = get_peft_model(model, LoraConfig(r=64, lora_alpha=16, lora_dropout=0.1, target_modules=TARGETS))
for parameter in model.parameters():
    if parameter.requires_grad:
        parameter.data = parameter.data.to("cpu" if rank == 0 else "meta", torch.bfloat16)
del parameter  # or it would keep the last one, the head, on the card


def of_an_adapter(module: torch.nn.Module) -> bool:
    """Layers with trained weights of their own are units of their own: all of a unit's are, or none."""
    return (
        not list(module.named_children())
        and getattr(module, "weight", None) is not None
        and module.weight.requires_grad
    )


policy = functools.partial(
    _or_policy,
    policies=[
        functools.partial(lambda_auto_wrap_policy, lambda_fn=of_an_adapter),
        functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=set(LAYERS)),
    ],
)
sharded = FullyShardedDataParallel(
    model,
    auto_wrap_policy=policy,
    cpu_offload=CPUOffload(offload_params=True) if offload else None,
    device_id=torch.cuda.current_device(),
    sync_module_states=True,
    param_init_fn=lambda module: module.to_empty(device="cuda", recurse=False) if rank else None,
    use_orig_params=False,
    limit_all_gathers=True,
)
sharded.enable_input_require_grads()
apply_activation_checkpointing(
    sharded,
    checkpoint_wrapper_fn=functools.partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.REENTRANT),
    check_fn=lambda module: isinstance(module, LAYERS),
)
optimizer = torch.optim.AdamW(sharded.parameters(), lr=1e-5, weight_decay=0.1)
for _ in range(100):
    ids = torch.randint(0, 32000, shape, device="cuda")
    output = sharded(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids))
    output.loss.backward()
    output.loss.item()  # for its log: here the host waits for the card
    sharded.clip_grad_norm_(0.3)
    optimizer.step()
    optimizer.zero_grad()
    output = None  # theirs keeps it, logits and all, for as long
