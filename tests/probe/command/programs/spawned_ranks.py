"""Two ranks of DDP that torch.multiprocessing.spawn starts: no launcher, no RANK, each told its number."""

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel


def train(rank: int, world: int, folder: str) -> None:
    """Train a layer, the first rank on twice as much, and leave the group before the end."""
    distributed.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.cuda.set_device(rank)
    model = DistributedDataParallel(torch.nn.Linear(4096, 4096).cuda(), device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        model(torch.ones(2048 // (rank + 1), 4096, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    distributed.destroy_process_group()


if __name__ == "__main__":
    import sys

    multiprocessing.spawn(train, args=(2, sys.argv[1]), nprocs=2)
