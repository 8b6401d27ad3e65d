"""Random whole numbers: in range, from the card's own generator, so that `manual_seed` and checkpointing hold."""

from typing import Any

import torch

from .host import host, is_true
from .kernels import Kernel, Original
from .left_as_noise import count_as_noise


def _generator(given: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A CPU generator at the card generator's place: its seed and how far it has advanced."""
    source = given
    if source is None:
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        source = torch.cuda.default_generators[index]
    place = source.initial_seed() + source.get_offset() if source.device.type == "cuda" else source.initial_seed()
    return torch.Generator("cpu").manual_seed(place % 2**63)


def drawn(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """random_ (randint) and bernoulli_ on whole numbers."""

    def kernel(tensor: torch.Tensor, *args: Any, generator: Any = None, **kwargs: Any) -> Any:
        if not is_true(tensor):
            return original(tensor, *args, generator=generator, **kwargs)
        source = _generator(generator, tensor.device)
        result = original(tensor, *args, generator=generator, **kwargs)
        try:
            # A probability that is itself on the card is a float there: asked as 1.
            sure = [torch.ones(a.shape, device="cpu") if isinstance(a, torch.Tensor) else a for a in args]
            op(host(tensor), *sure, generator=source, **kwargs)
        except RuntimeError as error:
            count_as_noise(op, error)
        return result

    return kernel


def permuted(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """randperm."""

    def kernel(n: int, *, out: torch.Tensor, **kwargs: Any) -> Any:
        source = _generator(kwargs.get("generator"), out.device)
        result = original(n, out=out, **kwargs)
        if is_true(out):
            host(out).copy_(torch.randperm(n, generator=source, device="cpu"))
        return result

    return kernel
