"""Full fine-tuning with torch's DistributedDataParallel; for torchrun."""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

dist.init_process_group("nccl")
device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M", dtype=torch.float32).to(device)
model.gradient_checkpointing_enable()
parallel = DistributedDataParallel(model, device_ids=[device.index])
optimizer = torch.optim.AdamW(parallel.parameters(), lr=1e-4)
for _ in range(100):
    ids = torch.randint(0, 1000, (4, 1024), device=device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = parallel(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
