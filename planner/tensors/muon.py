"""Muon: a momentum of each matrix, orthogonalized in bfloat16, and AdamW's moments of all else; what its step holds.

m x n = a weight and its gradient, e = the gradient's itemsize, r = the smaller of both sides.

The step is that of Moonshot's class, which LLaMA-Factory and Axolotl ship, run as it stands: a local variable keeps its
tensor until it is written again, also from one parameter to the next. Axolotl compiles the iteration, which then holds
no more, and steps no vectors. Source: llamafactory/third_party/muon/muon.py, train/trainer_utils.py
(_create_muon_optimizer); axolotl-contribs-mit 0.0.6, muon/muon.py.
"""

from collections.abc import Sequence

from planner.tensors.step_tensors import StepTensors
from planner.tensors.trainable import Trainable, module_by_module

# A bfloat16. Gradients of 16 bit are orthogonalized as they are.
_HALF_BYTES = 2
# Newton and Schulz, ns_steps of that class.
ROUNDS = 5


def is_orthogonalized(tensor: Trainable) -> bool:
    """Whether Muon takes the tensor, and not AdamW: a matrix that is no embedding and no output head by its name."""
    return len(tensor.shape) == 2 and "embed" not in tensor.name and "lm_head" not in tensor.name


def state_tensors(tensor: Trainable) -> tuple[int, ...]:
    """Bytes of the momentum, or of AdamW's two moments."""
    return (tensor.itemsize_bytes * tensor.elements,) * (1 if is_orthogonalized(tensor) else 2)


def worst_of_a_step(tensors: Sequence[Trainable]) -> list[tuple[int, int]]:
    """What is alive beside states and gradients at the worst moment: (bytes, how many)."""
    held = StepTensors()
    in_order = list(module_by_module(tensors))
    before = None
    walked = set[tuple[Trainable | None, Trainable]]()
    for tensor in filter(is_orthogonalized, in_order):
        # What a matrix finds is the update of the one before: layers after the first find the same.
        if (before, tensor) not in walked:
            _orthogonalize(held, tensor, before)
        walked.add((before, tensor))
        before = tensor
    _find_update_of(held, before)
    for tensor in tensors:
        if not is_orthogonalized(tensor):
            _adamw(held, tensor)
    return held.worst


def _find_update_of(held: StepTensors, before: Trainable | None) -> None:
    held.drop("update", "gradient")
    if before is not None:
        held.make("update", _HALF_BYTES * before.elements)


def _orthogonalize(held: StepTensors, tensor: Trainable, before: Trainable | None) -> None:
    """Nesterov's gradient, five rounds of Newton and Schulz, and the update, which stays."""
    matrix_bytes, square_bytes = _HALF_BYTES * tensor.elements, _HALF_BYTES * min(tensor.shape) ** 2
    _find_update_of(held, before)
    held.make("gradient", tensor.itemsize_bytes * tensor.elements)
    if tensor.itemsize_bytes != _HALF_BYTES:
        held.make("matrix", matrix_bytes)
    held.make("norm", _HALF_BYTES)
    held.make("norm and eps", _HALF_BYTES)
    held.drop("norm")
    held.make("matrix", matrix_bytes)
    held.drop("norm and eps")
    for _ in range(ROUNDS):
        held.make("square", square_bytes)
        held.make("part of the square", square_bytes)
        held.make("scaled square", square_bytes)
        held.make("fourth power", square_bytes)
        held.drop("scaled square")
        held.make("polynomial", square_bytes)
        held.drop("part of the square", "fourth power")
        held.make("part of the matrix", matrix_bytes)
        held.make("product", matrix_bytes)
        held.make("matrix", matrix_bytes)
        held.drop("part of the matrix", "product")
    held.drop("square", "polynomial")
    held.rename("matrix", "update")


def _adamw(held: StepTensors, tensor: Trainable) -> None:
    """AdamW for one tensor, beside the last matrix's update."""
    size_bytes = tensor.itemsize_bytes * tensor.elements
    held.drop("gradient")
    held.make("squared", size_bytes)
    held.drop("squared")
    held.make("root", size_bytes)
    held.make("root and eps", size_bytes)
    held.drop("root")
    held.make("gradient", size_bytes)
    held.drop("root and eps")
