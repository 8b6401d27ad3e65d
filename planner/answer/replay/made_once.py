"""Tensors that a run makes once, or all at a time, in torch's order: adapters, gradient norms, optimizer states.

Sizes are bytes, in arrays as the C of planner/allocator takes them.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import prod

from planner.memory.optimizer import (
    MAP_BYTES,
    SMALLEST_8BIT_ELEMENTS,
    partial_norms,
    state_tensors,
    working_copies,
)
from planner.memory.row_sums import Summing
from planner.request.optimizer_names import KEPT, Optimizer
from planner.tensors.low_rank import in_groups, low_shape
from planner.tensors.trainable import Trainable, module_by_module, reached


@dataclass(frozen=True, slots=True)
class MadeOnce:
    """`adapters`: as they are made; `casts`: what each is cast to when all are there, by PEFT and then by the stack, 0
    where it is not; a round that casts none is left out.

    `norms`: clipping's partial norms, a norm for each tensor, these in one tensor, and the norm of all. `states`: the
    optimizer's, parameter after parameter. `copies`: what the optimizer's own step holds at its worst moment.
    """

    adapters: "array[int]"
    casts: tuple["array[int]", ...]
    norms: "array[int]"
    states: "array[int]"
    copies: "array[int]"


@lru_cache(maxsize=512)
def made_once(
    tensors: tuple[Trainable, ...], optimizer: Optimizer, summing: Summing | None, *, embeddings_in_32bit: bool
) -> MadeOnce:
    """Of a run that trains `tensors`. Full fine-tuning has no use for the adapters."""
    # Copies of whole modules are made when all adapters are there.
    made = [tensor for tensor in tensors if not tensor.own]
    parts = [tuple(tensor for tensor in made if tensor.copied is copied) for copied in (False, True)]
    in_order, trained = [*chain.from_iterable(map(module_by_module, parts))], reached(tensors)
    count = sum(tensor.count for tensor in trained)
    by_peft = _cast([(tensor.elements, tensor.first_bytes, tensor.made_bytes) for tensor in in_order])
    by_the_stack = _cast([(tensor.elements, tensor.made_bytes, tensor.itemsize_bytes) for tensor in in_order])
    return MadeOnce(
        array("q", [tensor.first_bytes * tensor.elements for tensor in in_order]),
        tuple(cast for cast in (by_peft, by_the_stack) if any(cast)),
        array("q", [4 * partial_norms(trained), *[4] * count, 4 * count, 4]),
        array("q", _states(in_groups(module_by_module(trained)), optimizer, embeddings_in_32bit)),
        array("q", _copies(trained, optimizer, summing)),
    )


def _cast(tensors: Sequence[tuple[int, int, int]]) -> "array[int]":
    """Of (elements, itemsize before, itemsize after) the bytes of each that changes, 0 of the others."""
    return array("q", [elements * after if after != before else 0 for elements, before, after in tensors])


def _copies(tensors: tuple[Trainable, ...], optimizer: Optimizer, summing: Summing | None) -> Iterator[int]:
    """Of torch's foreach optimizers a list of copies after the other, each parameter after parameter."""
    kept = KEPT[optimizer]
    if kept.foreach_copies and kept.storage == "own":
        for _ in range(kept.foreach_copies):
            yield from (tensor.elements * tensor.itemsize_bytes for tensor in module_by_module(tensors))
        return
    for size, times in working_copies(tensors, optimizer, summing.column_means_bytes if summing else None):
        if size > 0:  # a gradient that went before is negative
            yield from [size] * times


def _states(tensors: Iterator[Trainable], optimizer: Optimizer, embeddings_in_32bit: bool) -> Iterator[int]:
    """bitsandbytes makes its maps with the first tensor that it quantizes."""
    kept = KEPT[optimizer]
    maps = len(kept.buffers) if kept.storage == "bnb_8bit" else 0
    known: dict[Trainable, Sequence[int]] = {}
    for tensor in tensors:
        if maps and prod(low_shape(tensor)) >= SMALLEST_8BIT_ELEMENTS:
            yield from [MAP_BYTES] * maps
            maps = 0
        if tensor not in known:
            known[tensor] = state_tensors(tensor, optimizer, embeddings_in_32bit=embeddings_in_32bit)
        yield from known[tensor]
