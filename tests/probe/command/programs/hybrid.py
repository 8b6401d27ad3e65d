"""FSDP2's hybrid sharding, gloo for the host; for torchrun. Argument: ranks that shard a model together."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
dist.init_process_group("cpu:gloo,cuda:nccl", device_id=device)
together = int(sys.argv[1])
sizes = (dist.get_world_size() // together, together)
mesh = init_device_mesh("cuda", sizes, mesh_dim_names=("replicas", "shards"))
said = [None] * dist.get_world_size()
dist.all_gather_object(said, "here")
counted = torch.ones(3)
dist.all_reduce(counted)
dist.barrier()
layers = torch.nn.Sequential(*(torch.nn.Linear(4096, 4096, bias=False) for _ in range(4))).to(device)
for layer in (*layers, layers):
    fully_shard(layer, mesh=mesh)
optimizer = torch.optim.AdamW(layers.parameters())
print("said", len(said), "shard", tuple(layers[0].weight.to_local().shape))
while True:
    layers(torch.randn(8, 4096, device=device)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
