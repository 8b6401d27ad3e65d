"""GaLore and APOLLO: projections and the moments of projected gradients, and what their steps hold, tensor by tensor.

m x n = a linear layer's weight and gradient, k = the smaller of both, r = rank, e = the gradient's itemsize; W = 4.
"right" multiplies the gradient with an r x n projection to m x r, "left" with m x r to r x n.

A step is walked as the libraries' Python runs it: a local variable keeps its tensor until it is written again, also
from one parameter to the next. The step is one that makes every projection anew, as each `update_proj_gap`-th does.
cuSOLVER's own workspace is not counted; the rest of its decomposition is (aten/src/ATen/native/cuda/linalg/
BatchLinearAlgebraLib.cpp, svd_cusolver: a copy of the matrix beside U, S, Vh and info).

Source: galore_torch 1.0 galore_projector.py, adamw.py, adamw8bit.py, adafactor.py; apollo_torch 1.0.3 apollo.py,
random_projector.py, svd_projector.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from planner.request.low_rank import Projection
from planner.request.optimizer_names import Optimizer
from planner.tensors.step_tensors import ColumnMeans, StepTensors
from planner.tensors.trainable import Trainable, module_by_module

_WIDE = 4

def low_shape(tensor: Trainable) -> tuple[int, ...]:
    """Shape of what the moments are kept of: the projected gradient where there is a projection."""
    projection = tensor.projection
    if projection is None:
        return tensor.shape
    rows, columns = tensor.shape
    rank = _inner(tensor, projection)
    return {"right": (rows, rank), "left": (rank, columns), "full": (rank, rank)}[_side(tensor, projection)]


def kept_projection(tensor: Trainable, optimizer: Optimizer) -> tuple[int, ...]:
    """Bytes of each tensor that the projection keeps alive.

    A decomposition of float32 gradients gives a view of all of U or Vh, and so keeps all of it; of 16-bit gradients it
    is copied to their dtype. GaLore's Adafactor projects float32 copies.
    """
    projection = tensor.projection
    if projection is None:
        return ()
    (rows, columns), inner = tensor.shape, _inner(tensor, projection)
    wide = projection.decomposed and (tensor.itemsize_bytes == _WIDE or optimizer == "galore_adafactor")
    length = min(rows, columns) if wide else inner
    itemsize_bytes = _WIDE if wide else tensor.itemsize_bytes
    sizes = {"left": itemsize_bytes * rows * length, "right": itemsize_bytes * length * columns}
    side = _side(tensor, projection)
    return tuple(sizes.values()) if side == "full" else (sizes[side],)


def worst_of_a_step(
    tensors: Sequence[Trainable], optimizer: Optimizer, column_means: ColumnMeans | None = None
) -> list[tuple[int, int]]:
    """What is alive beside states and gradients at the worst moment: (bytes, how many).

    Negative where a gradient is gone by then. Transformers puts what is not projected into the first group.
    """
    held = StepTensors(column_means)
    for tensor in in_groups(module_by_module(sorted(tensors, key=_place))):
        _STEPS[optimizer](held, tensor)
    return held.worst


def in_groups(tensors: Iterable[Trainable]) -> Iterator[Trainable]:
    """Those that are not projected first, as `_setup_low_rank_optimizer` has them."""
    return iter(sorted(tensors, key=lambda tensor: tensor.projection is not None))


def _place(tensor: Trainable) -> int:
    """Where transformers' Llama has a tensor among its parameters: a layer's norms follow its matrices.

    Families that have them elsewhere (GPT-2) hold less: a norm's small locals take the place of a matrix's.
    """
    if tensor.embedding:
        return 0
    _, layered, path = tensor.name.partition(".*.")
    if not layered:
        return 3 if len(tensor.shape) < 2 else 4
    return 2 if path.count(".") == 1 and len(tensor.shape) == 1 else 1


def _side(tensor: Trainable, projection: Projection) -> str:
    tall = tensor.shape[0] >= tensor.shape[1]
    by_shape = {"std": "right" if tall else "left", "reverse_std": "left" if tall else "right"}
    return by_shape.get(projection.side, projection.side)


def _inner(tensor: Trainable, projection: Projection) -> int:
    """Columns of the projection: a decomposition has no more than the smaller side, random numbers have."""
    return min(projection.rank, *tensor.shape) if projection.decomposed else projection.rank


def _project(held: StepTensors, tensor: Trainable, projection: Projection, *, itemsize_bytes: int, wide: bool) -> None:
    """The projection made anew, then the projected gradient, under "low". `wide`: the gradient is in float32."""
    (rows, columns), inner, side = tensor.shape, _inner(tensor, projection), _side(tensor, projection)
    if not wide:
        held.make("matrix", _WIDE * rows * columns)
    if projection.decomposed:
        _decompose(held, tensor, inner, side, wide=wide)
    else:
        size = inner * (rows if side == "left" else columns)
        held.make("random", _WIDE * size)
        held.make("random", _WIDE * size)  # divided by the root of the rank
        if not wide:
            held.make("random", itemsize_bytes * size)
        held.drop("random")  # in the place of the one before, which is a state
    held.drop("matrix")
    if side == "full":
        held.make("half", itemsize_bytes * inner * columns)
    low_rows, low_columns = low_shape(tensor)
    held.make("low", itemsize_bytes * low_rows * low_columns)
    held.drop("half")


def _decompose(held: StepTensors, tensor: Trainable, inner: int, side: str, *, wide: bool) -> None:
    (rows, columns), least = tensor.shape, min(tensor.shape)
    for name, elements in (("U", rows * least), ("S", least), ("Vh", least * columns), ("info", 1)):
        held.make(name, _WIDE * elements)
    held.make("copy", _WIDE * rows * columns)
    held.drop("copy", "info")
    if side != "full":
        held.make("diagonal", _WIDE * inner * inner)
        held.make("product", _WIDE * inner * (rows if side == "right" else columns))
        held.drop("diagonal")
    if not wide:
        narrow = {"left": rows * inner, "right": inner * columns}
        for name in narrow if side == "full" else (side,):
            held.make(f"narrow {name}", tensor.itemsize_bytes * narrow[name])
    # What is kept is a state; the one before it goes only now.
    held.drop("U", "S", "Vh", "product", "narrow left", "narrow right")


def _project_back(held: StepTensors, tensor: Trainable, projection: Projection, itemsize_bytes: int, name: str) -> None:
    """The update at full size, made from "low" something, and once more times its scale, under `name`."""
    (rows, columns), inner = tensor.shape, _inner(tensor, projection)
    if _side(tensor, projection) == "full":
        held.make("half", itemsize_bytes * rows * inner)
    held.make("back", itemsize_bytes * rows * columns)
    held.drop("half")
    held.make("scaled", itemsize_bytes * rows * columns)
    held.drop("back")
    held.rename("scaled", name)


def _moments(held: StepTensors, tensor: Trainable) -> None:
    """AdamW's root of the second moment, and the first over it."""
    low_bytes = tensor.itemsize_bytes * _elements(low_shape(tensor))
    held.make("denominator", low_bytes)
    held.make("update", low_bytes)


def _elements(shape: Iterable[int]) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements


def _galore_adamw(held: StepTensors, tensor: Trainable) -> None:
    held.drop("gradient")
    wide = tensor.itemsize_bytes == _WIDE
    if tensor.projection:
        _project(held, tensor, tensor.projection, itemsize_bytes=tensor.itemsize_bytes, wide=wide)
        held.rename("low", "gradient")
    _moments(held, tensor)
    if tensor.projection:
        _project_back(held, tensor, tensor.projection, tensor.itemsize_bytes, "update")


def _galore_adamw_8bit(held: StepTensors, tensor: Trainable) -> None:
    """The weight lies aside while bitsandbytes steps in one of the projected size; the gradient is gone by then."""
    if tensor.projection is None:
        return
    itemsize_bytes, weight_bytes = tensor.itemsize_bytes, tensor.itemsize_bytes * tensor.elements
    _project(held, tensor, tensor.projection, itemsize_bytes=itemsize_bytes, wide=itemsize_bytes == _WIDE)
    low_bytes = itemsize_bytes * _elements(low_shape(tensor))
    held.make("aside", weight_bytes)
    held.make("weight", low_bytes)
    held.drop("aside")  # in the place of the weight's own, which goes
    held.give_back(weight_bytes, "low")
    _project_back(held, tensor, tensor.projection, itemsize_bytes, "update")
    held.drop("update", "weight")


def _galore_adafactor(held: StepTensors, tensor: Trainable) -> None:
    """In float32 throughout: 16-bit gradients and weights are copied."""
    narrow, wide_bytes = tensor.itemsize_bytes < _WIDE, _WIDE * tensor.elements
    held.drop("gradient")
    if narrow:
        held.make("gradient", wide_bytes)
    if tensor.projection:
        _project(held, tensor, tensor.projection, itemsize_bytes=_WIDE, wide=True)
        held.rename("low", "gradient")
    held.drop("weight")
    if narrow:
        held.make("weight", wide_bytes)
    shape = low_shape(tensor)
    low_bytes = _WIDE * _elements(shape)
    held.make("squared", low_bytes)
    held.make("squared with eps", low_bytes)
    held.drop("squared")
    held.rename("squared with eps", "update")
    if held.column_means and len(shape) > 1:
        held.make("column means", held.column_means(shape))
        held.drop("column means")
    held.make("update", low_bytes)
    if tensor.projection:
        _project_back(held, tensor, tensor.projection, _WIDE, "update")
    held.make("negative", wide_bytes)
    held.drop("negative")


def _apollo_adamw(held: StepTensors, tensor: Trainable) -> None:
    """The gradient itself, scaled row by row or column by column, and once more over the limit of its growth."""
    held.drop("gradient")
    if tensor.projection is None:
        _moments(held, tensor)
        return
    itemsize_bytes, gradient_bytes = tensor.itemsize_bytes, tensor.itemsize_bytes * tensor.elements
    _project(held, tensor, tensor.projection, itemsize_bytes=itemsize_bytes, wide=itemsize_bytes == _WIDE)
    held.rename("low", "gradient")
    _moments(held, tensor)
    held.make("factor", itemsize_bytes * (max(tensor.shape) if tensor.projection.by_channel else 1))
    held.make("scaled gradient", gradient_bytes)
    held.make("norm", itemsize_bytes)
    held.make("scaled gradient", gradient_bytes)
    held.drop("update")  # the scaled gradient's other name


_STEPS: dict[str, Callable[[StepTensors, Trainable], None]] = {
    "galore_adamw": _galore_adamw,
    "galore_adamw_8bit": _galore_adamw_8bit,
    "galore_adafactor": _galore_adafactor,
    "apollo_adamw": _apollo_adamw,
}
