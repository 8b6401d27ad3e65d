"""Operators over whole numbers: the card's own kernel first (it allocates), then the truth on the host, in place."""

from typing import Any

import torch

from .host import WHOLE, each, host, is_true, one_thread, tensors
from .kernels import Kernel, Original, written
from .left_as_noise import count_as_noise

_CPU = torch.device("cpu")


def computed(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """The kernel of `op`: true where every tensor is whole, otherwise the card's own and nothing else."""
    names = written(op)
    if not names:
        run = _functional
    elif op._schema.arguments[0].name in names:
        run = _in_place
    else:
        run = _out

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if not _all_true(args) or not _all_true(kwargs.values()):
            result = original(*args, **kwargs)
            if kwargs.get("dtype") in WHOLE:  # sum(float, dtype=int64): every float is asked as 1
                ones_for(result)
            return result
        with one_thread():
            return run(op, original, args, kwargs)

    # Where the first argument is a float and there is no `dtype=`, nothing is to be done (kernels.py asks first).
    kernel.leaves_floats = True  # type: ignore[attr-defined]
    return kernel


def overwritten(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """The kernel of `fill_`: what its target held is of no account, so that nothing is copied.

    `zero_` has no rule of its own, as torch's kernel of it calls `fill_` (ATen/native/Fill.cpp).
    """
    whole = computed(op, original)
    if not op._schema.name.endswith("_"):
        return whole

    def kernel(target: torch.Tensor, value: Any) -> Any:
        if not is_true(target) or isinstance(value, torch.Tensor):
            return whole(target, value)
        result = original(target, value)
        with one_thread():
            host(target).fill_(value)
        return result

    kernel.leaves_floats = True  # type: ignore[attr-defined]
    return kernel


def ones_for(result: torch.Tensor) -> None:
    """Whole numbers that a cast makes of floats: 1 (rules.py, "a float is asked as 1")."""
    if is_true(result):
        host(result).fill_(1)


def _all_true(values: Any) -> bool:
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.is_cuda and not is_true(value):  # what is on the host is true as it is
                return False
        elif isinstance(value, (list, tuple)) and not _all_true(value):
            return False
    return True


def _on_host(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    moved = {name: each(value, host) for name, value in kwargs.items()}
    if moved.get("device") is not None:
        moved |= {"device": _CPU, "pin_memory": None}
    return tuple(each(arg, host) for arg in args), moved


def _functional(op: Any, original: Original, args: Any, kwargs: dict[str, Any]) -> Any:
    result = original(*args, **kwargs)
    targets = tensors(result)
    if all(is_true(target) for target in targets):
        try:
            host_args, host_kwargs = _on_host(args, kwargs)
            _write(targets, tensors(op(*host_args, **host_kwargs)))
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            count_as_noise(op, error)
    return result


def _in_place(op: Any, original: Original, args: Any, kwargs: dict[str, Any]) -> Any:
    # Computed on a copy and before the original: an original that calls other operators (foreach on whole numbers
    # takes the slow road) would otherwise be applied twice.
    changed = None
    try:
        host_args, host_kwargs = _on_host(args, kwargs)
        changed = each(host_args[0], torch.clone)
        op(changed, *host_args[1:], **host_kwargs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        count_as_noise(op, error)
        changed = None
    result = original(*args, **kwargs)
    if changed is not None:
        _write(tensors(args[0]), tensors(changed))
    return result


def _out(op: Any, original: Original, args: Any, kwargs: dict[str, Any]) -> Any:
    result = original(*args, **kwargs)
    try:
        host_args, host_kwargs = _on_host(args, kwargs)
        # Into fresh tensors of the final shape (the original resized what it was given): outs may overlap the inputs.
        named = dict(zip((a.name for a in op._schema.arguments), host_args, strict=False)) | host_kwargs
        fresh = {name: each(named[name], _fresh) for name in written(op)}
        op(**{**named, **fresh})
        _write([t for name in fresh for t in tensors(named[name])], [t for out in fresh.values() for t in tensors(out)])
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        count_as_noise(op, error)
    return result


def _fresh(out: torch.Tensor) -> torch.Tensor:
    return torch.empty(out.shape, dtype=out.dtype, device=_CPU)


def _write(targets: list[torch.Tensor], truths: list[torch.Tensor]) -> None:
    for target, truth in zip(targets, truths, strict=True):
        host(target).copy_(truth)
