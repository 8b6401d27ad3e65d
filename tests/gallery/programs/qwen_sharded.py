"""One step of Qwen3.5 0.8B over several cards, as FakeGPU measured it on real ones; for torchrun.

Arguments: `full` (FSDP, every weight) or `lora` (FSDP2, rank 8 on all linear layers, adapters in float32), and the
tokens of the one sequence. Without prefetching, in bfloat16, AdamW tensor by tensor, half of the labels left out
(github.com/FanBB2333/FakeGPU, docs/llm-sft-memory-estimation.md, and the two workers that it names).
"""

import os
import sys

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers import AutoModelForCausalLM

method, tokens = sys.argv[1], int(sys.argv[2])
dist.init_process_group("nccl")
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3.5-0.8B", dtype=torch.bfloat16, attn_implementation="sdpa")
model.config.use_cache = False
model.train()
layers = model.model.layers
if method == "full":
    model = FullyShardedDataParallel(
        model,
        auto_wrap_policy=ModuleWrapPolicy({type(layers[0])}),
        device_id=device,
        sharding_strategy=ShardingStrategy.FULL_SHARD,
        backward_prefetch=None,
        forward_prefetch=False,
        limit_all_gathers=True,
        use_orig_params=False,
    )
else:
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")).to(device)
    for layer in layers:
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(model, reshard_after_forward=True)
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5, foreach=False)
ids = torch.randint(100, 1000, (1, tokens)).to(device)
labels = ids.clone()
labels[:, : tokens // 2] = -100
positions = torch.arange(tokens, device=device).view(1, 1, tokens).expand(3, 1, tokens).clone()
torch.cuda.reset_peak_memory_stats()
# Their programs keep the outputs, logits among them, until the step has ended.
outputs = model(input_ids=ids, labels=labels, position_ids=positions, use_cache=False)
outputs.loss.backward()
optimizer.step()
