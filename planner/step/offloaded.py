"""What TRL's offloading keeps beside a step: tensors on the card from one step to the next, and copies on the host.

Source: trl 1.16 models/activation_offloading.py: the context's `curr_autograd_node` keeps the graph of the step before,
and with it the embedded tokens, a leaf, and their gradient; its `tracker` what no node asked for.
"""

from collections.abc import Mapping
from math import prod

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.program import played
from planner.step.lines import numbers_by_kind, program_order_and_tables

LEFT = "embedded tokens, their gradient and what no node asked for, kept by TRL's offloading"
_SOURCE = "trl 1.16 models/activation_offloading.py"


def offloaded_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """What is there between two steps, and what waits on the host; none where nothing is offloaded."""
    if not recipe.offloads:
        return ()
    return _left(decoder, recipe, gpu), _on_host(decoder, recipe, gpu)


def _left(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Line:
    """In forward, loss and backward it is among the step's own tensors."""
    program, order, tables = program_order_and_tables(decoder, recipe, gpu)
    segments = [program.segments[index] for index in played(program, tuple(order))]
    left_bytes = sum(
        count * tables[segment.kind or 0][key]
        for segment in segments
        for key, count in segment.net
        if program.keys[key][0] != GRADIENTS
    )
    return Line(
        name=LEFT, bytes=left_bytes, cause="activations", alive_in=("optimizer",),
        formula="2·e·T·h + what the fused head's nodes saved", working=f"{left_bytes:,}",
        source=f"{_SOURCE}, curr_autograd_node and tracker",
    )  # fmt: skip


def _on_host(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Line:
    """Each copy takes a block of a power of two (aten/src/ATen/core/CachingHostAllocator.h), which is used again."""
    program, order, _ = program_order_and_tables(decoder, recipe, gpu)
    numbers = numbers_by_kind(decoder, recipe, gpu)
    blocks = [
        (order.count(kind) if kind is not None else 1, _block_bytes(size.num, size.dims, numbers[kind or 0]))
        for kind, size in program.copied
    ]
    host_bytes = sum(count * size_bytes for count, size_bytes in blocks)
    return Line(
        name="saved activations in pinned host memory", bytes=host_bytes, cause="activations", alive_in=(),
        formula="Σ e × elements of each saved tensor of 1,024 bytes and more, up to a power of two",
        working=f"{len(order)} layers' inputs and what head and loss save: {host_bytes:,}",
        source=f"{_SOURCE}, pack_tensor",
    )  # fmt: skip


def _block_bytes(num: int, dims: tuple[str, ...], numbers: Mapping[str, int]) -> int:
    return 1 << (num * prod(numbers[name] for name in dims) - 1).bit_length()
