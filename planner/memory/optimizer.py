"""Optimizer state, which of it is paged out of the card's own memory, and what a step holds for a moment.

n = elements of one trained tensor, e = its itemsize.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.ledger import Line
from planner.request import Optimizer
from planner.trainable import Trainable, reached
from planner.units import allocated, ceil_div

# From the second step on the state is there from the beginning.
ALIVE_IN = ("forward", "loss", "backward", "optimizer")

# bitsandbytes 0.50.2, optim/optimizer.py: min_8bit_size; get_state_buffer pages from 1e5 elements; blocksize 256;
# fill_qmap makes two maps of 256 float32 for all tensors together.
SMALLEST_8BIT_ELEMENTS = 4_096
SMALLEST_PAGED_ELEMENTS = 100_000
BLOCK_ELEMENTS = 256
MAPS_BYTES = 2 * 256 * 4

_EIGHT_BIT = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
_BITSANDBYTES = (*_EIGHT_BIT, "paged_adamw_32bit")
_SOURCES = {
    "adamw_torch": "torch/optim/adam.py: exp_avg, exp_avg_sq in the parameter's dtype, step on the CPU",
    "adamw_torch_fused": "torch/optim/adam.py: exp_avg, exp_avg_sq in the parameter's dtype, step on the card",
    "adafactor": "transformers/optimization.py Adafactor: float32 row and column means of the squared gradient",
    "sgd": "torch/optim/sgd.py without momentum: no state",
} | dict.fromkeys(_BITSANDBYTES, "bitsandbytes/optim/optimizer.py Optimizer2State.init_state, get_state_buffer")
_FORMULAS = {
    "adamw_torch": "2 e n",
    "adamw_torch_fused": "2 e n + 512 for step",
    "adafactor": "4 (rows + columns) + 512 for RMS",
    "sgd": "0",
    "paged_adamw_32bit": "8 n; n ≥ 100,000 paged",
    "paged_adamw_8bit": "2 (n + 4 ⌈n/256⌉); n < 4,096: 8 n; the 2 n of n ≥ 100,000 paged",
} | dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit"), "2 (n + 4 ⌈n/256⌉); n < 4,096: 8 n")


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
    n = tensor.elements
    if optimizer == "sgd":
        return State(0)
    if optimizer == "adafactor":
        return State(_factored_bytes(tensor.shape) + allocated(4))
    if optimizer in ("adamw_torch", "adamw_torch_fused"):
        step_bytes = allocated(4) if optimizer == "adamw_torch_fused" else 0
        return State(2 * allocated(n * tensor.itemsize_bytes) + step_bytes)
    in_8bit = optimizer in _EIGHT_BIT and n >= SMALLEST_8BIT_ELEMENTS and not (embeddings_in_32bit and tensor.embedding)
    moments_bytes = 2 * n if in_8bit else 8 * n
    maxima_bytes = 2 * allocated(4 * ceil_div(n, BLOCK_ELEMENTS)) if in_8bit else 0
    if optimizer.startswith("paged") and n >= SMALLEST_PAGED_ELEMENTS:
        return State(maxima_bytes, moments_bytes)
    return State(2 * allocated(moments_bytes // 2) + maxima_bytes)


def optimizer_lines(
    tensors: Sequence[Trainable], optimizer: Optimizer, *, clips: bool, embeddings_in_32bit: bool = False
) -> list[Line]:
    """Lines for the state, the paged part of it (alive in no phase of the card) and the worst moment of the step."""
    tensors = reached(tensors)
    states = [(state_of(t, optimizer, embeddings_in_32bit=embeddings_in_32bit), t.count) for t in tensors]
    uses_maps = optimizer in _EIGHT_BIT and any(tensor.elements >= SMALLEST_8BIT_ELEMENTS for tensor in tensors)
    elements = sum(tensor.elements * tensor.count for tensor in tensors)
    working = f"{elements:,} trained parameters in {sum(t.count for t in tensors):,} tensors"

    def line(name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        return Line(
            name=name, bytes=size_bytes, cause="optimizer", alive_in=alive_in, formula=f"Σ {_FORMULAS[optimizer]}",
            working=working, evidence="exact", source=_SOURCES[optimizer],
        )  # fmt: skip

    device_bytes = sum(state.device_bytes * count for state, count in states) + (MAPS_BYTES if uses_maps else 0)
    paged_bytes = sum(state.paged_bytes * count for state, count in states)
    return [
        line(f"optimizer state ({optimizer})", device_bytes, ALIVE_IN),
        line("optimizer state, paged out of the card", paged_bytes, ()),
        _moment_of_the_step(tensors, optimizer, clips=clips),
    ]


def working_copies(tensors: Sequence[Trainable], optimizer: Optimizer) -> list[tuple[int, int]]:
    """What the worst moment of the optimizer's own step allocates: (bytes, how many)."""
    if optimizer == "adamw_torch":
        return [(allocated(tensor.elements * tensor.itemsize_bytes), tensor.count) for tensor in tensors]
    return _adafactor_copies(tensors) if optimizer == "adafactor" else []


def _moment_of_the_step(tensors: Sequence[Trainable], optimizer: Optimizer, *, clips: bool) -> Line:
    """Clipping's norms are gone before the step begins, so the larger of the two moments counts.

    Norms: one scalar per tensor, their stack and its norm (torch/nn/utils/clip_grad.py). adamw_torch's foreach holds
    the square root of every second moment at once (torch/optim/adam.py, _multi_tensor_adam). Adafactor works tensor by
    tensor: see `_adafactor_copies`.
    """
    count = sum(tensor.count for tensor in tensors)
    norms_bytes = ((count + 1) * allocated(4) + allocated(4 * count)) if clips else 0
    step_bytes = sum(size_bytes * copies for size_bytes, copies in working_copies(tensors, optimizer))
    return Line(
        name="optimizer step" if step_bytes > norms_bytes else "gradient norms",
        bytes=max(norms_bytes, step_bytes),
        cause="optimizer",
        alive_in=("optimizer",),
        formula="max(512 per tensor + 4 per tensor stacked + 512, working copies of the step)",
        working=f"max({norms_bytes:,}, {step_bytes:,})",
        evidence="modelled",
        source="torch/nn/utils/clip_grad.py _get_total_norm; " + _SOURCES[optimizer],
    )


def _adafactor_copies(tensors: Sequence[Trainable]) -> list[tuple[int, int]]:
    """Worst moment of Adafactor's loop, in float32 copies.

    The squared gradient and its sum with eps are made while the update of the tensor before is still referenced;
    16-bit gradients and weights are copied to float32 first. Equal tensors follow each other layer by layer, so the
    one before the first of a layer is the last.
    """
    moments = [
        [(allocated(4 * before.elements), 1), (allocated(4 * tensor.elements), 2 if tensor.itemsize_bytes == 4 else 4)]
        for before, tensor in zip((tensors[-1], *tensors[:-1]), tensors, strict=True)
    ] if tensors else []  # fmt: skip
    return max(moments, key=lambda moment: sum(size * copies for size, copies in moment), default=[])


def _factored_bytes(shape: tuple[int, ...]) -> int:
    if len(shape) < 2:
        return allocated(4 * shape[0])
    rows = columns = 1
    for size in shape[:-1]:
        rows *= size
    for size in (*shape[:-2], shape[-1]):
        columns *= size
    return allocated(4 * rows) + allocated(4 * columns)
