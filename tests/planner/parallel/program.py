"""The program of the recorded runs: `torchrun … program.py SETTING`, a plain loop over random tokens on several cards.

SETTING is a row's `setting` as JSON (tests/planner/parallel/record.py). Rank 0 prints the peaks of each step's phases.
"""

import json
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

STEPS = 5


def main() -> None:
    setting, rank = json.loads(sys.argv[1]), int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("cpu:gloo,cuda:nccl")
    model: nn.Module = built(setting, rank)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    for _ in range(STEPS):
        figures = stepped(model, trained, optimizer, setting)
        if rank == 0:
            print("FIGURES", json.dumps(figures), file=sys.stderr, flush=True)


def built(setting: dict[str, Any], rank: int) -> nn.Module:
    sharded = setting["strategy"] == "fsdp"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta" if sharded else "cuda"):
        model: Any = LlamaForCausalLM(LlamaConfig(**setting["model"]))
    torch.set_default_dtype(torch.float32)
    base = model
    model.config.use_cache = False
    if setting["method"] == "lora":
        lora = LoraConfig(r=setting["r"], target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    if setting["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if setting["method"] == "lora":
            model.enable_input_require_grads()
    model.train()
    if setting["strategy"] == "ddp":
        return DistributedDataParallel(model, device_ids=[rank], **setting.get("ddp", {}))
    return cut(model, base, setting) if sharded else model


def cut(model: Any, base: Any, setting: dict[str, Any]) -> nn.Module:
    """As accelerate cuts a model (accelerate/utils/fsdp_utils.py fsdp2_prepare_model)."""
    mixed = MixedPrecisionPolicy()
    if setting.get("mixed"):
        mixed = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    on_host = setting.get("offload", False)
    options = {"mp_policy": mixed, "offload_policy": CPUOffloadPolicy() if on_host else OffloadPolicy()}
    reshard = setting.get("reshard", True)
    decoder, tied = base.model, base.config.tie_word_embeddings
    for layer in decoder.layers:
        fully_shard(layer, reshard_after_forward=reshard, **options)
    if not tied:
        fully_shard(decoder.embed_tokens, reshard_after_forward=reshard, **options)
    tail = [decoder.norm, *([decoder.embed_tokens] if tied else []), base.lm_head]
    fully_shard(tail, reshard_after_forward=False, **options)
    fully_shard(model, **options)
    model.to_empty(device="cpu" if on_host else "cuda")
    for name, buffer in list(model.named_buffers()):
        parent, _, leaf = name.rpartition(".")
        model.get_submodule(parent).register_buffer(leaf, buffer.cuda(), persistent=False)
    return model  # type: ignore[no-any-return]  # torch has no types for it


def stepped(
    model: nn.Module, trained: list[nn.Parameter], optimizer: torch.optim.Optimizer, setting: dict[str, Any]
) -> dict[str, int]:
    """One step; the allocated peak of each of its phases, in bytes."""
    shape = (setting["batch"], setting["length"])
    torch.cuda.reset_peak_memory_stats()
    ids = torch.randint(0, setting["model"]["vocab_size"], shape, device="cuda")
    loss = model(input_ids=ids, labels=ids).loss
    found = {"forward": torch.cuda.max_memory_allocated()}
    torch.cuda.reset_peak_memory_stats()
    loss.backward()
    found["backward"] = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    found["optimizer"] = torch.cuda.max_memory_allocated()
    optimizer.zero_grad()
    return found


if __name__ == "__main__":
    main()
