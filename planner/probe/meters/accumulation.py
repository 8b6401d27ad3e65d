"""Gradients that autograd adds up in place, found again in a run that is watched.

torch/csrc/autograd/input_buffer.cpp, `accumulate`: a second gradient is added to the first in place where the engine
holds the last reference to the first and to its storage, and the first is dense; but never while a dispatch mode is
on (`isTensorSubclassLike`). A meter is one, so it must put back what a run without it would do.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.utils._python_dispatch import TorchDispatchMode

_ADD = torch.ops.aten.add.Tensor
_ADD_IN_PLACE = torch.ops.aten.add_.Tensor


class _Holders(NamedTuple):
    """How many hold a tensor's wrapper, the tensor and its storage, as seen from inside a dispatch mode."""

    wrapper: int
    tensor: int
    storage: int


class InPlaceSums:
    """Knows the engine's sums among all others."""

    def __init__(self) -> None:
        """Learn from torch itself how many hold a gradient that the engine alone holds. Outside every mode."""
        watch = _Watch()
        value = torch.zeros(1, requires_grad=True)
        total = value.exp() + value.sin()
        with watch:
            total.backward()
        self._alone = watch.seen

    def instead_of(self, func: Any, args: Sequence[Any]) -> Any:
        """`add_` where `func` is a sum that the engine would make in place, else `func` itself."""
        if func is not _ADD or torch.is_grad_enabled() or torch._C._current_autograd_node() is None:
            return func
        if not isinstance(args[1], torch.Tensor) or args[0].shape != args[1].shape or args[0].dtype != args[1].dtype:
            return func
        if _holders(args) != self._alone or not is_non_overlapping_and_dense_or_false(args[0]):
            return func
        return _ADD_IN_PLACE


def _holders(args: Sequence[Any]) -> _Holders:
    """Of the first of `args`; each call of it adds the same to the counts."""
    storage = args[0].untyped_storage()
    return _Holders(sys.getrefcount(args[0]), args[0]._use_count(), torch._C._storage_Use_Count(storage._cdata))


class _Watch(TorchDispatchMode):
    """Writes down the holders of the first side of the last sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.seen = _Holders(0, 0, 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is _ADD:
            self.seen = _holders(args)
        return func(*args, **(kwargs or {}))
