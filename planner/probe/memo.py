"""Fake tensors that remember: what an operator made of these shapes once, it makes of them every time.

A model repeats the same few hundred calls in every layer. torch works each of them out anew, or finds it in a cache
whose key takes longer to build than the answer; here a call is looked up by what decides its answer, and the answer is
made from the shapes that torch itself gave the first time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

_CPU, _META = torch.device("cpu"), torch.device("meta")
_PLAIN = (str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))
_NUMBERS = (bool, int, float)
# Answers that depend on values, and calls that change what a tensor is (torch/_C/tag.h).
_UNSTEADY = frozenset({
    torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view,
})  # fmt: skip

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Same:
    """The very argument."""

    index: int


@dataclass(frozen=True, slots=True)
class _Made:
    """A tensor with a storage of its own, or a view of the argument `index`."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    index: int | None


_Output = _Same | _Made | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """`container` is None where the operator returns one thing."""

    container: type | None
    outputs: tuple[_Output, ...]


class _NotRememberedError(Exception):
    """The call's answer cannot be made from shapes alone."""


class RememberingFakes(FakeTensorMode):
    """`FakeTensorMode`, with a memory."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._answers: dict[Key, _Answer | None] = {}
        # What the constructor gives every fake tensor on the CPU, so that each later one is spared it.
        self._attributes = dict(vars(FakeTensor(self, torch.empty(0, device=_META), _CPU)))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and the wrapper that keeps the compiler out costs more than the lookup."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors: list[FakeTensor] = []
        try:
            key = _key_of(func, args, kwargs, tensors)
        except _NotRememberedError:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if key not in self._answers:
            return self._learn(key, tensors, func, types, args, kwargs)
        answer = self._answers[key]
        if answer is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if answer.container is None:
            return self._make(answer.outputs[0], tensors)
        return answer.container([self._make(output, tensors) for output in answer.outputs])

    def _learn(  # noqa: PLR0913, PLR0917  # a dispatch, and how it was looked up
        self, key: Key, tensors: Sequence[FakeTensor], func: Any, types: Any, args: Any, kwargs: Any
    ) -> Any:
        """Ask torch, and remember the answer where shapes decide it."""
        storages = _addresses(tensors)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        unchanged = _addresses(tensors) == storages and _key_of(func, args, kwargs, []) == key
        try:
            self._answers[key] = _answer_of(result, tensors) if unchanged and _is_steady(func) else None
        except _NotRememberedError:
            self._answers[key] = None
        return result

    def _make(self, output: _Output, tensors: Sequence[FakeTensor]) -> FakeTensor | None:
        if output is None:
            return None
        if isinstance(output, _Same):
            return tensors[output.index]
        if output.index is None:
            shaped = torch.empty_strided(output.shape, output.stride, dtype=output.dtype, device=_META)
        else:
            storage = tensors[output.index].untyped_storage()
            shaped = torch.empty(0, dtype=output.dtype, device=_META)
            shaped.set_(storage, output.offset, output.shape, output.stride)
        fake = torch.Tensor._make_subclass(
            FakeTensor, shaped, False, dispatch_device=True, device_for_backend_keys=_CPU
        )
        torch._C._set_throw_on_mutable_data_ptr(fake)
        vars(fake).update(self._attributes)
        return fake


def _key_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: list[FakeTensor]) -> Key:
    """All that decides the answer; the tensors among the arguments are gathered on the way.

    Raises:
        _NotRememberedError: something else may decide it.
    """
    if type(func) is not OpOverload:
        raise _NotRememberedError
    parts: list[Any] = [func, torch.get_default_dtype()]
    _describe(args, parts, tensors)
    for name, value in kwargs.items():
        parts.append(name)
        _describe((value,), parts, tensors)
    return tuple(parts)


def _describe(args: Iterable[Any], parts: list[Any], tensors: list[FakeTensor]) -> None:
    for arg in args:
        kind = type(arg)
        if kind is FakeTensor:
            if arg.constant is not None or arg._fake_device != _CPU:
                raise _NotRememberedError
            tensors.append(arg)
            parts += (arg.shape, arg.stride(), arg.dtype, arg.storage_offset(), arg.requires_grad)
        elif kind in _NUMBERS:
            parts += (kind, arg)  # 1, 1.0 and True are equal
        elif kind in _PLAIN:
            parts.append(arg)
        elif kind is list or kind is tuple or kind is torch.Size:
            parts += (list, len(arg))
            _describe(arg, parts, tensors)
        else:
            raise _NotRememberedError


def _is_steady(func: OpOverload) -> bool:
    return _UNSTEADY.isdisjoint(func.tags)


def _answer_of(result: Any, tensors: Sequence[FakeTensor]) -> _Answer:
    """Raises: _NotRememberedError."""
    single = not isinstance(result, (list, tuple))
    results = (result,) if single else result
    own = [_address(each) for each in results if isinstance(each, FakeTensor)]
    given = _addresses(tensors)
    fresh = [address for address in own if address not in given]
    if len(set(fresh)) < len(fresh) or any(tensor.dtype.is_complex for tensor in tensors):
        raise _NotRememberedError
    container = None if single else list if isinstance(result, list) else tuple
    return _Answer(container, tuple(_output_of(each, tensors, given) for each in results))


def _output_of(result: Any, tensors: Sequence[FakeTensor], given: Sequence[int]) -> _Output:
    if result is None:
        return None
    if type(result) is not FakeTensor or result.constant is not None or result._fake_device != _CPU:
        raise _NotRememberedError
    if result.dtype.is_complex or result.is_neg():
        raise _NotRememberedError
    same = [index for index, tensor in enumerate(tensors) if tensor is result]
    shared = [index for index, address in enumerate(given) if address == _address(result)]
    if len(shared) > 1 or len(same) > 1:
        raise _NotRememberedError  # which of them it was cannot be told
    if same:
        return _Same(same[0])
    offset = int(result.storage_offset())
    made = _Made(result.shape, result.stride(), result.dtype, offset, shared[0] if shared else None)
    if made.index is None and not _has_a_storage_of_its_size(result):
        raise _NotRememberedError
    return made


def _has_a_storage_of_its_size(tensor: FakeTensor) -> bool:
    elements = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    size_bytes = elements * tensor.element_size() if tensor.numel() else 0
    return tensor.storage_offset() == 0 and tensor.untyped_storage().nbytes() == size_bytes


def _addresses(tensors: Iterable[FakeTensor]) -> list[int]:
    return [_address(tensor) for tensor in tensors]


def _address(tensor: FakeTensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address
