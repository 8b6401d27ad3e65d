"""What a block of card memory is to the training: a weight, a gradient, or the optimizer's state."""

import bisect
import gc


class Held:
    """Address ranges of tensors that live beyond a step, by kind."""

    def __init__(self, ranges):
        self.ranges = sorted(ranges)
        self.starts = [start for start, _, _ in self.ranges]

    def find(self, address, size):
        """The kind of the held tensor that lies in the block, or None."""
        index = bisect.bisect_left(self.starts, address)
        for candidate in self.ranges[max(0, index - 1) : index + 1]:
            if candidate[0] < address + size and address < candidate[1]:
                return candidate[2]
        return None


def modules_of(torch):
    """Every module that is alive."""
    # Not isinstance: it asks objects for their __class__, and some of torch's warn when asked.
    kinds = {}
    return [found for found in gc.get_objects() if _is_module(type(found), torch, kinds)]


def _is_module(kind, torch, known):
    """Asked once for each type: there are a million objects, and some thousand types."""
    if kind not in known:
        known[kind] = issubclass(kind, torch.nn.Module)
    return known[kind]


def held_by(torch, modules, optimizer):
    """Look at every module and at the optimizer that stepped."""
    ranges = []
    for module in modules:
        _add_module(torch, module, ranges)
    if optimizer is not None:
        for state in optimizer.state.values():
            for value in state.values() if isinstance(state, dict) else ():
                _add(torch, value, "optimizer", ranges)
    return Held(ranges)


def _add_module(torch, module, ranges):
    for parameter in module._parameters.values():
        if parameter is None:
            continue
        _add(torch, parameter, "trained weights" if parameter.requires_grad else "weights", ranges)
        _add(torch, parameter.grad, "gradients", ranges)
        # bitsandbytes and HQQ keep constants of a quantized weight beside it.
        for value in _parts(getattr(parameter, "quant_state", None)):
            _add(torch, value, "quantization constants", ranges)
    for buffer in module._buffers.values():
        _add(torch, buffer, "buffers", ranges)


def _parts(state):
    """The tensors inside a quantization state, and inside the state it nests."""
    if state is None:
        return
    for value in vars(state).values() if hasattr(state, "__dict__") else ():
        if hasattr(value, "__dict__") and hasattr(value, "absmax"):
            yield from _parts(value)
        else:
            yield value


def _add(torch, value, kind, ranges):
    if not isinstance(value, torch.Tensor) or value.device.type != "cuda" or type(value).__name__ == "FakeTensor":
        return
    local = getattr(value, "_local_tensor", value)
    storage = local.untyped_storage()
    if storage.nbytes():
        ranges.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes(), kind))
