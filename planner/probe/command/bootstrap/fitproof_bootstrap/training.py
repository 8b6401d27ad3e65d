"""How the program trains, as far as advice can be computed from it: sizes are bytes on the card."""

import sys

# bitsandbytes/optim/optimizer.py: smaller states stay 32-bit (min_8bit_size), one float32 for each block of 256.
_SMALLEST_8BIT = 4096
_BLOCK_8BIT = 256
# bitsandbytes/functional.py quantize_4bit: half a byte an element, one constant for each block of 64; with nested
# quantization one byte a constant, and one float32 for each 256 of them.
_BLOCK_4BIT = 64
_BLOCK_NESTED = 256


def circumstances(torch, modules, optimizer):
    """What a report says of the program beside its peaks."""
    switches = [module.gradient_checkpointing for module in modules if hasattr(module, "gradient_checkpointing")]
    # transformers leaves the head in 16 bits (quantizers_utils.py, get_modules_to_not_convert).
    heads = [module.get_output_embeddings() for module in modules if hasattr(module, "get_output_embeddings")]
    linear = sum(_frozen_16bit_elements(torch, module) for module in modules if not any(module is h for h in heads))
    return {
        "gradient_checkpointing": any(switches) if switches else None,
        "linear_in_4bit_saves_bytes": 2 * linear - _in_4bit(linear),
        "optimizer": _optimizer(torch, optimizer),
        "nccl_groups": _nccl_groups(),
    }


def _frozen_16bit_elements(torch, module):
    """Elements of a linear layer on the card that 4-bit loading would replace."""
    if type(module) is not torch.nn.Linear:
        return 0
    weight = module._parameters.get("weight")
    if weight is None or weight.requires_grad or weight.device.type != "cuda" or weight.element_size() != 2:
        return 0
    return weight.numel()


def _in_4bit(elements):
    constants = -(-elements // _BLOCK_4BIT)
    return elements // 2 + constants + 4 * -(-constants // _BLOCK_NESTED)


def _optimizer(torch, optimizer):
    """Its name, what its state takes on the card, and what bitsandbytes' 8-bit states of the same tensors would."""
    if optimizer is None:
        return None
    now = then = 0
    for state in optimizer.state.values():
        for value in state.values() if isinstance(state, dict) else ():
            if isinstance(value, torch.Tensor) and value.device.type == "cuda":
                local = getattr(value, "_local_tensor", value)
                now += local.numel() * local.element_size()
                then += _in_8bit(local)
    return {"name": type(getattr(optimizer, "optimizer", optimizer)).__name__, "bytes": now, "bytes_in_8bit": then}


def _in_8bit(value):
    elements = value.numel()
    if not value.is_floating_point() or elements < _SMALLEST_8BIT:
        return elements * value.element_size()
    return elements + 4 * -(-elements // _BLOCK_8BIT)


def _nccl_groups():
    """How many groups of more than one rank talk over NCCL."""
    distributed = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is None or not distributed.is_initialized():
        return 0
    groups = distributed._world.pg_map.items()
    return sum(1 for group, (backend, _) in groups if "nccl" in str(backend) and group.size() > 1)
