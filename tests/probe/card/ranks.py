"""One rank of a sharded run; prints what it saw. Started by torchrun in the tests."""

import json
import os
import time
from pathlib import Path

import pynvml
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard


def train() -> None:
    """Two steps of a small sharded stack."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(4))).cuda()
    for layer in (*layers, layers):
        fully_shard(layer)
    optimizer = torch.optim.AdamW(layers.parameters())
    for _ in range(2):
        layers(torch.randn(8, 1024, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def meet(word: str) -> None:
    """Collectives return at once on the virtual card, so the ranks meet in a folder."""
    folder = Path(os.environ["MEETING"])
    (folder / f"{word}-{dist.get_rank()}").touch()
    while len(list(folder.glob(f"{word}-*"))) < dist.get_world_size():
        time.sleep(0.05)


def main() -> None:
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    train()
    said: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(said, "here")
    meet("trained")
    time.sleep(0.3)  # longer than a card keeps what it saw of others
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    seen = {
        "pid": os.getpid(),
        "said": said,
        "reserved": torch.cuda.memory_reserved(),
        "used": [pynvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles],
        "owners": [[process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(each)] for each in handles],
    }
    (Path(os.environ["MEETING"]) / f"answer{dist.get_rank()}").write_text(json.dumps(seen))
    meet("read")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
