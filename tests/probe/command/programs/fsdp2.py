"""Full fine-tuning of a Llama, sharded over all ranks with FSDP2; for torchrun. Argument: small (default), or 8b."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

dist.init_process_group("nccl")
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
large = sys.argv[1:] == ["8b"]
config = LlamaConfig(
    hidden_size=4096 if large else 1024,
    intermediate_size=14336 if large else 2048,
    num_hidden_layers=32 if large else 4,
    num_attention_heads=32 if large else 8,
    num_key_value_heads=8,
    vocab_size=128256 if large else 8192,
)
with torch.device("meta"):
    model = LlamaForCausalLM(config)
if large:
    model.gradient_checkpointing_enable()
policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
for layer in model.model.layers:
    fully_shard(layer, mp_policy=policy)
fully_shard(model, mp_policy=policy)
model.to_empty(device=device)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for _ in range(1000):
    ids = torch.randint(0, config.vocab_size, (1, 2048 if large else 512), device=device)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
