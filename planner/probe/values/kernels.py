"""How an operator's CUDA kernel is replaced and still called: the mechanism, free of rules."""

from collections.abc import Callable
from typing import Any

import torch

Original = Callable[..., Any]  # torch's kernel, called as the operator is
Kernel = Callable[..., Any]  # what stands in front of it
Rule = Callable[[torch._ops.OpOverload, Original], Kernel]

_CUDA, _CPU = torch._C.DispatchKey.CUDA, torch._C.DispatchKey.CPU
_BELOW = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)
_CPU_ONLY = torch._C.DispatchKeySet(_CPU).raw_repr()
# Asking a set of keys takes 2 us where all else in front of a kernel takes 7, and the same sets come again and again.
_KINDS: dict[int, Any] = {}


def overloads(name: str) -> list[torch._ops.OpOverload]:
    """The overloads of `name` (functional and out=) that have a CUDA kernel of their own; none where torch lacks it.

    An overload that torch composes of others needs no override: its parts have theirs.
    """
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return []
    found = [getattr(packet, overload) for overload in packet.overloads()]
    return [op for op in found if _reaches_python(op) and (_has_kernel(op, "CUDA") or op.name() == "aten::copy_")]


def _reaches_python(op: torch._ops.OpOverload) -> bool:
    """Whether torch itself never hands it a number as a tensor on the card, which no Python kernel can be given.

    It does in `2 ** x`, which calls pow.Tensor_Tensor. `2 ** x` has a rule of its own; `x ** y` of whole numbers stays
    noise.
    """
    return not op.name().startswith(("aten::pow.Tensor_Tensor", "aten::pow_.Tensor"))


def written(op: torch._ops.OpOverload) -> tuple[str, ...]:
    """Names of the arguments that the operator writes to."""
    return tuple(a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write)


def override(library: torch.library.Library, op: torch._ops.OpOverload, rule: Rule) -> None:
    """Put `rule`'s kernel in front of the CUDA kernel of `op`.

    It stands at BackendSelect, directly above the backends and below autograd: switched on in every thread, and falling
    through for operators that take a tensor, so that the place is free. CUDA's own key keeps torch's kernel, which
    `_op_dk` calls. (`torch.library.get_kernel`, from 2.10, refuses `x + 1`: it takes no number for a tensor.)
    """
    call, composed = op._op_dk, not _has_kernel(op, "CUDA")
    key = torch._C.DispatchKey.CompositeExplicitAutograd if composed else torch._C.DispatchKey.CUDA

    def original(*args: Any, **kwargs: Any) -> Any:
        return call(key, *args, **kwargs)

    name = op._schema.name.removeprefix("aten::")
    name = f"{name}.{op._schema.overload_name}" if op._schema.overload_name else name
    kernel = rule(op, original)
    # For `copy_` CUDA's key is free, and costs other devices nothing; without a tensor BackendSelect's place is taken.
    if composed or not any("Tensor" in str(argument.type) for argument in op._schema.arguments):
        library.impl(name, kernel, "CUDA")
    else:
        library.impl(name, _on_cuda(op, kernel), "BackendSelect", with_keyset=True)


def _on_cuda(op: torch._ops.OpOverload, kernel: Kernel) -> Kernel:
    """`kernel` where torch would call CUDA's; everything else goes on below as if nothing stood here.

    Holding CUDA's key is not enough: a fake tensor holds it beside Meta's, which comes first, while its shape is worked
    out (so does a DTensor's on every new operator), and a dense operand holds it beside a sparse one's.
    """
    keyed, redispatch = op._op_dk, op.redispatch
    has_cpu_kernel, kinds = _has_kernel(op, "CPU"), _KINDS
    places = _tensor_places(op)
    name = op._schema.name.removeprefix("aten::")
    tensor, leaves_floats = torch.Tensor, getattr(kernel, "leaves_floats", False)
    refused = places if not torch._C._should_allow_numbers_as_tensors(name) else ()

    def front(keys: Any, *args: Any, **kwargs: Any) -> Any:
        raw = keys.raw_repr()
        if raw not in kinds:
            kinds[raw] = _kind_of(keys)
        kind = kinds[raw]
        if refused:
            args = _numbers_as_tensors(args, refused)
        if kind is _CUDA:
            if leaves_floats and not kwargs and isinstance(args[0], tensor) and args[0].is_floating_point():
                return keyed(_CUDA, *args)  # most calls of a training step end here
            return kernel(*args, **kwargs)
        if kind is _CPU and has_cpu_kernel:
            return keyed(_CPU, *args, **kwargs)
        return redispatch(keys & _BELOW, *_numbers_as_tensors(args, places), **kwargs)

    return front


def _kind_of(keys: Any) -> Any:
    """CUDA where torch would call CUDA's kernel, CPU where the operands have no other key, otherwise None."""
    keys = keys & _BELOW
    if keys.highestPriorityTypeId() == _CUDA:
        return _CUDA
    return _CPU if keys.raw_repr() == _CPU_ONLY else None


def _tensor_places(op: torch._ops.OpOverload) -> tuple[int, ...]:
    """Positions of the arguments that are a tensor, where there are several: one of them may arrive as a number."""
    places = [place for place, a in enumerate(op._schema.arguments) if str(a.type) == "Tensor" and not a.kwarg_only]
    return tuple(places) if len(places) > 1 else ()


def _numbers_as_tensors(args: tuple[Any, ...], places: tuple[int, ...]) -> tuple[Any, ...]:
    """For `x % 3` torch wraps 3 as a tensor, hands a Python kernel the number, and refuses it back: wrap it again.

    A tensor without dimensions of the type that the two would have together leaves the result's type as it was.
    """
    numbers = [place for place in places if place < len(args) and not isinstance(args[place], torch.Tensor)]
    numbers = [place for place in numbers if args[place] is not None]
    if not numbers:
        return args
    tensors = [args[place] for place in places if place < len(args) and isinstance(args[place], torch.Tensor)]
    wrapped = list(args)
    for place in numbers:
        dtype = torch.result_type(tensors[-1], args[place])
        wrapped[place] = torch.scalar_tensor(args[place], dtype=dtype, device="cpu")
    return tuple(wrapped)


def _has_kernel(op: torch._ops.OpOverload, key: str) -> bool:
    # Some overloads exist for TorchScript's own numbers and lists only; the dispatcher does not know them.
    known = torch._C._dispatch_has_kernel(op.name())
    return bool(known and torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key))
