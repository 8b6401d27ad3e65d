"""Optimizer state, which of it is paged out of the card's own memory, and what a step holds for a moment.

n = elements of one trained tensor, e = its itemsize.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from planner.ledger import Line
from planner.request.optimizer_names import KEPT, Kept, Optimizer
from planner.tensors import muon
from planner.tensors.low_rank import kept_projection, low_shape, worst_of_a_step
from planner.tensors.step_tensors import ColumnMeans
from planner.tensors.trainable import Trainable, reached
from planner.units import allocated, ceil_div

# From the second step on the state is there from the beginning.
ALIVE_IN = ("forward", "loss", "backward", "optimizer")

# bitsandbytes 0.50.2, optim/optimizer.py: min_8bit_size; get_state_buffer pages from 1e5 elements; blocksize 256;
# fill_qmap makes a map of 256 float32 for each buffer, for all tensors together.
SMALLEST_8BIT_ELEMENTS = 4_096
SMALLEST_PAGED_ELEMENTS = 100_000
BLOCK_ELEMENTS = 256
MAP_BYTES = 256 * 4
# aten/src/ATen/native/cuda/MultiTensorApply.cuh kChunkSize: what one block of a foreach norm reads.
_CHUNK_ELEMENTS = 65_536

# torchao/optim: _new_buffer quantizes from 4,096 elements in whole blocks; a map of 256 or 16 float32 for each buffer.
TORCHAO_BLOCK_ELEMENTS = 256
_TORCHAO_MAP_BYTES = {"torchao_8bit": 256 * 4, "torchao_4bit": 16 * 4}
_FORMULAS = {
    "own": "{buffers} e n",
    "bnb_32bit": "{buffers} 4 n",
    "bnb_8bit": "{buffers} (n + 4 ⌈n/256⌉); n < 4,096: {buffers} 4 n",
    "torchao_8bit": "{buffers} (n + n/64 + 1,024); n < 4,096 or not of whole blocks: {buffers} e n",
    "torchao_4bit": "{buffers} (n/2 + n/64 + 64); n < 4,096 or not of whole blocks: {buffers} e n",
    "factored": "4 (rows + columns)",
    "orthogonalized": "e n of a matrix, 2 e n of embeddings, heads and vectors",
}


@dataclass(frozen=True, slots=True)
class State:
    """State of one tensor: in torch's allocator, and in managed memory that the driver pages."""

    device_bytes: int
    paged_bytes: int = 0


def state_of(tensor: Trainable, optimizer: Optimizer, *, embeddings_in_32bit: bool = False) -> State:
    """State of one trained tensor, each state tensor rounded up to 512 bytes.

    `embeddings_in_32bit`: Trainer tells bitsandbytes to keep the state of `nn.Embedding` weights in 32 bit
    (transformers 5.23, trainer.py create_optimizer, register_module_override).
    """
    sizes = state_tensors(tensor, optimizer, embeddings_in_32bit=embeddings_in_32bit)
    kept, n = KEPT[optimizer], tensor.elements
    paged_bytes = 0
    if kept.paged and n >= SMALLEST_PAGED_ELEMENTS:
        in_8bit = _in_8bit(tensor, kept, embeddings_in_32bit)
        paged_bytes = sum(kept.buffers) * (1 if in_8bit else 4) * n
    return State(sum(map(allocated, sizes)), paged_bytes)


def state_tensors(tensor: Trainable, optimizer: Optimizer, *, embeddings_in_32bit: bool = False) -> tuple[int, ...]:
    """Bytes of each state tensor of one trained tensor that is in torch's allocator, in the order they are made.

    Sources: torch/optim/adam.py _init_group (step, then the moments); bitsandbytes optim/optimizer.py init_state (the
    buffers, then their maxima); torchao/optim/subclass_8bit.py (codes, scales, map); Adafactor: rows, columns.
    """
    kept, n = KEPT[optimizer], tensor.elements
    if kept.low_rank:
        return _low_rank(tensor, optimizer)
    if kept.storage == "orthogonalized":
        return muon.state_tensors(tensor)
    step = (4,) if kept.step_on_card else ()
    if kept.storage == "factored":
        return (*step, *_factored(tensor.shape))
    if kept.storage == "own":
        return (*step, *_each(kept, tensor.itemsize_bytes * n))
    if kept.storage in _TORCHAO_MAP_BYTES:
        return _torchao(tensor, kept)
    in_8bit = _in_8bit(tensor, kept, embeddings_in_32bit)
    paged = kept.paged and n >= SMALLEST_PAGED_ELEMENTS
    buffers = () if paged else _each(kept, n if in_8bit else 4 * n)
    return (*buffers, *(_each(kept, 4 * ceil_div(n, BLOCK_ELEMENTS)) if in_8bit else ()))


def _low_rank(tensor: Trainable, optimizer: Optimizer) -> tuple[int, ...]:
    """The projection, moments of what it leaves of the gradient, and norms: Adafactor's of the weight, bitsandbytes' of
    the update (GaLore gives it percentile_clipping in the place of max_unorm), APOLLO's of a projected one's growth.
    """
    kept, shape = KEPT[optimizer], low_shape(tensor)
    n, projection = prod(shape), kept_projection(tensor, optimizer)
    if kept.storage == "factored":
        return (*projection, *_factored(shape), 4)
    if kept.storage == "own":
        norm = (4,) if projection and optimizer == "apollo_adamw" else ()
        return (*projection, *_each(kept, tensor.itemsize_bytes * n), *norm)
    in_8bit = n >= SMALLEST_8BIT_ELEMENTS
    maxima = _each(kept, 4 * ceil_div(n, BLOCK_ELEMENTS)) if in_8bit else ()
    return (*projection, *_each(kept, n if in_8bit else 4 * n), *maxima, 4)


def _in_8bit(tensor: Trainable, kept: Kept, embeddings_in_32bit: bool) -> bool:
    in_8bit = kept.storage == "bnb_8bit" and tensor.elements >= SMALLEST_8BIT_ELEMENTS
    return in_8bit and not (embeddings_in_32bit and tensor.embedding)


def _each(kept: Kept, size_bytes: int) -> tuple[int, ...]:
    """Every buffer of `kept`, where one of the tensor's own size takes `size_bytes`."""
    return tuple(times * size_bytes for times in kept.buffers)


def _torchao(tensor: Trainable, kept: Kept) -> tuple[int, ...]:
    n = tensor.elements
    if n < SMALLEST_8BIT_ELEMENTS or n % TORCHAO_BLOCK_ELEMENTS:
        return _each(kept, tensor.itemsize_bytes * n)
    codes_bytes = n if kept.storage == "torchao_8bit" else n // 2
    scales_bytes = 4 * (n // TORCHAO_BLOCK_ELEMENTS)
    map_bytes = _TORCHAO_MAP_BYTES[kept.storage]
    return tuple(size for times in kept.buffers for size in (times * codes_bytes, times * scales_bytes, map_bytes))


def optimizer_lines(
    tensors: Sequence[Trainable],
    optimizer: Optimizer,
    *,
    clips: bool,
    embeddings_in_32bit: bool = False,
    column_means: ColumnMeans | None = None,
) -> list[Line]:
    """Lines for the state, the paged part of it (alive in no phase of the card) and the worst moment of the step.

    `column_means`: bytes of the means of a matrix's columns, which Adafactor makes; None leaves them out.
    """
    tensors = reached(tensors)
    states = [(state_of(t, optimizer, embeddings_in_32bit=embeddings_in_32bit), t.count) for t in tensors]
    kept = KEPT[optimizer]
    sizes = (prod(low_shape(tensor)) for tensor in tensors)
    uses_maps = kept.storage == "bnb_8bit" and any(size >= SMALLEST_8BIT_ELEMENTS for size in sizes)
    elements = sum(tensor.elements * tensor.count for tensor in tensors)
    working = f"{elements:,} trained parameters in {sum(t.count for t in tensors):,} tensors"

    def line(name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        return Line(
            name=name, bytes=size_bytes, cause="optimizer", alive_in=alive_in, formula=_formula(kept), working=working,
            source=kept.source,
        )  # fmt: skip

    device_bytes = sum(state.device_bytes * count for state, count in states) + (
        uses_maps and MAP_BYTES * len(kept.buffers)
    )
    paged_bytes = sum(state.paged_bytes * count for state, count in states)
    return [
        line(f"optimizer state ({optimizer})", device_bytes, ALIVE_IN),
        line("optimizer state, paged out of the card", paged_bytes, ()),
        _moment_of_the_step(tensors, optimizer, clips=clips, column_means=column_means),
    ]


def working_copies(
    tensors: Sequence[Trainable], optimizer: Optimizer, column_means: ColumnMeans | None = None
) -> list[tuple[int, int]]:
    """What the worst moment of the optimizer's own step allocates: (bytes, how many)."""
    kept = KEPT[optimizer]
    if kept.low_rank:
        return worst_of_a_step(tensors, optimizer, column_means)
    if kept.storage == "orthogonalized":
        return muon.worst_of_a_step(tensors)
    if kept.storage == "factored":
        return _adafactor_copies(tensors, column_means)
    if kept.storage in _TORCHAO_MAP_BYTES:
        # Compiled tensor by tensor: the two moments in float32 outlive the kernel that quantizes them.
        return [(allocated(4 * max((tensor.elements for tensor in tensors), default=0)), 2)]
    copies = kept.foreach_copies
    sizes = [(allocated(tensor.elements * tensor.itemsize_bytes), tensor.count * copies) for tensor in tensors]
    return sizes if copies else []


def _formula(kept: Kept) -> str:
    """What one tensor's state weighs; the least that is paged is part of it."""
    if not kept.buffers and kept.storage == "own":
        return "0"
    text = _FORMULAS[kept.storage].format(buffers=sum(kept.buffers))
    if kept.low_rank:
        return f"Σ projection + {text}, where n, rows and columns are those of the projected gradient"
    text += " + 512 for step" if kept.step_on_card else ""
    return f"Σ {text}; n ≥ 100,000 paged" if kept.paged else f"Σ {text}"


def _moment_of_the_step(
    tensors: Sequence[Trainable], optimizer: Optimizer, *, clips: bool, column_means: ColumnMeans | None
) -> Line:
    """Clipping's norms are gone before the step begins, so the larger of the two moments counts.

    Norms: one scalar per tensor, and beside them first what each is summed up from, then their stack and its norm
    (torch/nn/utils/clip_grad.py). adamw_torch's foreach holds
    the square root of every second moment at once (torch/optim/adam.py, _multi_tensor_adam). Adafactor works tensor by
    tensor: see `_adafactor_copies`.
    """
    count = sum(tensor.count for tensor in tensors)
    partial_bytes = allocated(4 * partial_norms(tensors))
    norms_bytes = count * allocated(4) + max(partial_bytes, allocated(4 * count) + allocated(4)) if clips else 0
    step_bytes = sum(size_bytes * copies for size_bytes, copies in working_copies(tensors, optimizer, column_means))
    return Line(
        name="optimizer step" if step_bytes > norms_bytes else "gradient norms",
        bytes=max(norms_bytes, step_bytes),
        cause="optimizer",
        alive_in=("optimizer",),
        formula="max(512 per tensor + 4 per tensor stacked + 512, or + 4 per tensor and chunk, copies of the step)",
        working=f"max({norms_bytes:,}, {step_bytes:,})",
        evidence="modelled",
        source="torch/nn/utils/clip_grad.py _get_total_norm; " + KEPT[optimizer].source,
    )


def partial_norms(tensors: Sequence[Trainable]) -> int:
    """Numbers that clipping writes at once on its way to norms: one for each chunk of 65,536 elements, as many for
    each tensor as the largest has, one dtype after the other.

    Source: torch/nn/utils/clip_grad.py _get_total_norm, aten/src/ATen/native/cuda/ForeachReduceOp.cu (kChunkSize).
    """
    groups: dict[int, list[Trainable]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.itemsize_bytes, []).append(tensor)
    return max(
        (
            sum(tensor.count for tensor in group)
            * max(ceil_div(tensor.elements, _CHUNK_ELEMENTS) for tensor in group)
            for group in groups.values()
        ),
        default=0,
    )


def _adafactor_copies(tensors: Sequence[Trainable], column_means: ColumnMeans | None) -> list[tuple[int, int]]:
    """Worst moment of Adafactor's loop, in float32 copies.

    The squared gradient and its sum with eps are made while the update of the tensor before is still referenced;
    16-bit gradients and weights are copied to float32 first. Equal tensors follow each other layer by layer, so the
    one before the first of a layer is the last. When the means of its columns are made, the one before is gone.
    """
    moments = [
        [(allocated(4 * before.elements), 1), (allocated(4 * tensor.elements), 2 if tensor.itemsize_bytes == 4 else 4)]
        for before, tensor in zip((tensors[-1], *tensors[:-1]), tensors, strict=True)
    ] if tensors else []  # fmt: skip
    for tensor in tensors:
        if column_means and len(tensor.shape) > 1:
            kept = (allocated(4 * tensor.elements), 1 if tensor.itemsize_bytes == 4 else 3)
            moments.append([kept, (column_means(tensor.shape), 1)])
    return max(moments, key=lambda moment: sum(size * copies for size, copies in moment), default=[])


def _factored(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 2:
        return (4 * shape[0],)
    return (4 * prod(shape[:-1]), 4 * prod((*shape[:-2], shape[-1])))
