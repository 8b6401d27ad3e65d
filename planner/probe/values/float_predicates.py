"""Questions asked of floats: every float of the card is asked as if it were 1."""

from typing import Any

import torch

from .computed import computed
from .host import each, host, is_true, tensors
from .kernels import Kernel, Original, written
from .left_as_noise import count_as_noise

# An answer about gradients that a rule gave: no infinity was found. Negative zero is false and no noise holds it by
# accident, so that `.item()` can tell it, and copies of it, from an unknown float.
ANSWERED_ZERO = -0.0


def asked(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """Predicates: whole numbers are computed, floats are asked as 1, once, and the answer fills the result."""
    if op.name() == "aten::isin.Scalar_Tensor":
        return _number_in
    whole = computed(op, original)
    names = written(op)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        inputs = [t for name, value in zip(_names(op), args, strict=False) if name not in names for t in tensors(value)]
        if not any(t.is_cuda and (t.is_floating_point() or t.is_complex()) for t in inputs or tensors(args[0])):
            return whole(*args, **kwargs)
        result = original(*args, **kwargs)
        for target in tensors(result):
            if is_true(target):
                host(target).fill_(_answer(op, args))
        return result

    return kernel


def _names(op: torch._ops.OpOverload) -> list[str]:
    return [argument.name for argument in op._schema.arguments]


def _number_in(element: Any, elements: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """`torch.isin(2, x)`: torch's kernel compares with a number on the card, which `eq`'s override cannot be given."""
    return torch.isin(torch.tensor(element, device=elements.device), elements, **kwargs)


def _answer(op: Any, args: Any) -> Any:
    """What the operator says of ones, found on the CPU with one element for each tensor."""
    one = [each(arg, lambda t: torch.ones((1,), dtype=_plain(t.dtype), device="cpu")) for arg in args]
    functional = getattr(torch.ops.aten, op._schema.name.removeprefix("aten::").removesuffix("_"))
    try:
        return functional(*(one[:1] if op._schema.name in _REDUCTIONS else one)).flatten()[0].item()
    except (RuntimeError, TypeError) as error:
        count_as_noise(op, error)
        return True


_REDUCTIONS = frozenset({"aten::any", "aten::all", "aten::count_nonzero"})


def _plain(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.is_floating_point else dtype


def item(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`.item()`, `bool()`, `float()`: whole numbers as they are; a float is 1.0, which nothing divides by in vain."""

    def kernel(tensor: torch.Tensor) -> Any:
        value = original(tensor)
        if tensor.is_floating_point():
            return 0.0 if value == 0.0 and str(value) == "-0.0" else 1.0
        return complex(1.0) if tensor.is_complex() else value

    return kernel


def found_no_infinity(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """GradScaler's unscaling: no gradient holds an infinity, so that the optimizer's step is taken."""

    def kernel(grads: Any, found_inf: torch.Tensor, inv_scale: torch.Tensor) -> Any:
        result = original(grads, found_inf, inv_scale)
        host(found_inf).fill_(ANSWERED_ZERO)
        return result

    return kernel


def growth(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """GradScaler's update: one more step without an infinity; the count starts again at the interval."""

    def kernel(scale: Any, tracker: torch.Tensor, *rest: Any) -> Any:
        before = int(host(tracker))
        result = original(scale, tracker, *rest)
        host(tracker).fill_((before + 1) % rest[-1])
        return result

    return kernel


def equal(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`torch.equal`: computed of whole numbers; floats of one shape are equal."""

    def kernel(first: torch.Tensor, second: torch.Tensor) -> bool:
        original(first, second)
        if first.shape != second.shape:
            return False
        return not (is_true(first) and is_true(second)) or torch.equal(host(first), host(second))

    return kernel


def copied(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`copy_`, and with it `to`, `clone`, `contiguous`: whole numbers arrive; a float cast to them is 1."""

    def kernel(target: torch.Tensor, source: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if target.is_cuda and not is_true(target):
            if source.is_cpu and _moves_bytes_alone(target, source):
                return target
            return original(target, source, *args, **kwargs)
        if is_true(source) or not source.is_cuda:
            truth = host(source).clone() if source.is_cuda else source
            result = original(target, source, *args, **kwargs)
            host(target).copy_(truth)
            return result
        result = original(target, source, *args, **kwargs)
        if target.is_cuda or not target.is_floating_point():
            if is_true(target) and source.is_floating_point():
                host(target).fill_(1)
        else:
            _finite(target)
        return result

    return kernel


def _moves_bytes_alone(target: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether a copy from the host is one cudaMemcpy, which allocates nothing: then noise need not become resident.

    A 70B model's adapters are 207 million float32 numbers, in tensors of 2 MiB and less.
    """
    alike = source.dtype == target.dtype and source.shape == target.shape
    large = target.numel() * target.dtype.itemsize > _READ_BACK_BYTES
    return alike and large and source.is_contiguous() and target.is_contiguous()


def _finite(target: torch.Tensor) -> None:
    """Noise read back to the host must not look like a diverged run; large reads are checkpoints, left alone."""
    if target.numel() * target.dtype.itemsize <= _READ_BACK_BYTES and target.dtype.itemsize > 1:
        target.nan_to_num_(1.0, 1.0, 1.0)


# A logged loss, a norm for each parameter, a vector of rewards: what a program looks at is a page or two.
_READ_BACK_BYTES = 64 * 2**10
