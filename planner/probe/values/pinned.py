"""Pinned copies of large floats, which have no bytes: host memory that is never written takes none.

FSDP's CPU offload pins each rank's share of the weights (torch/distributed/fsdp/_flat_param.py, `pin_memory`): 70B in
4 bits are 35 GB. Their values count for nothing, as on the card; the card counts the pinned bytes all the same.
"""

import torch

# As of payloads that go to the card (planner/probe/card/src/space.cpp, PAYLOAD_BYTES): more than this is weights.
PAYLOAD_BYTES = 4 * 2**20


def install(library: torch.library.Library) -> None:
    """Stand in front of `Tensor.pin_memory` for tensors on the host."""
    library.impl("_pin_memory", _pin_memory, "CPU")


def _pin_memory(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    if tensor.is_floating_point() and tensor.numel() * tensor.element_size() > PAYLOAD_BYTES:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu", pin_memory=True)
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    pinned: torch.Tensor = torch.ops.aten._pin_memory.default._op_dk(key, tensor, device)
    return pinned
