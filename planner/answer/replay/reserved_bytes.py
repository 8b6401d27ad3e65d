"""Reserved bytes: what torch.cuda.max_memory_reserved() would read with memory in plenty.

The loader, the adapters and the first two training steps are played through the allocator's rules: the first makes the
optimizer's state in what its backward pass left free, the second has to do with what is left of that, and all later
ones reserve what it does (of 40 catalogue models with every weight trained, none more in a third step).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.allocator.caching_allocator import ROUND_LARGE_BYTES, OutOfDeviceMemoryError
from planner.allocator.expandable_segments import ExpandablePools
from planner.allocator.load_phase import INSTALLED, Habits, Pools, load_into, play_load
from planner.allocator.native_pools import fast_pools
from planner.allocator.python_pools import PythonPools
from planner.answer.replay.played_run import run_in
from planner.answer.replay.sharded_run import sharded_reserved_bytes
from planner.answer.static_lines import loaded_model
from planner.gpu import Gpu
from planner.memory.runtime import workspace_bytes
from planner.model.model import Model
from planner.parallel.flat_units import is_played
from planner.parallel.step import traced_recipe
from planner.request.recipe import Recipe
from planner.step import LAYERS_PLAYED_BACKWARD, Step, step_of
from planner.tensors.tensor_storage import place

_STEPS = 2
# A run of unequal lengths, as the allocator meets them: the longest first, then five spread over 0.6 to 1.0 of it, the
# range the replays of memory-internals 6.1 had.
VARYING_LENGTHS = (1.0, 0.7, 0.9, 0.6, 0.8, 1.0)


def reserved_bytes(  # noqa: PLR0913 (the last ones are for those who compare)
    model: Model,
    recipe: Recipe,
    gpu: Gpu,
    *,
    layers_backward: int = LAYERS_PLAYED_BACKWARD,
    habits: Habits = INSTALLED,
    known: dict[tuple[object, ...], int] | None = None,
) -> int:
    """Segments of both pools together at their largest.

    `layers_backward`: so many of each kind are played move by move, see planner/step/schedule.py. `habits`: how the
    model is loaded. `known`: plays of this model on other cards, most of which play the same.

    Raises:
        FitproofError: as `plan` does.
    """
    steps = _steps(model, recipe, gpu, _lengths(recipe), layers_backward)
    if known is None:
        return _reserved_bytes(model, recipe, gpu, habits, steps)
    # A card decides nothing else of a run.
    same = (recipe, habits, workspace_bytes(gpu.compute_capability), *((each.script, *each.sizes) for each in steps))
    if same not in known:
        known[same] = _reserved_bytes(model, recipe, gpu, habits, steps)
    return known[same]


def _reserved_bytes(model: Model, recipe: Recipe, gpu: Gpu, habits: Habits, steps: Sequence[Step]) -> int:
    def played(pools: Pools) -> int:
        run = run_in(pools, model, recipe, gpu)
        for step in steps:
            run.play(step)
        return pools.peak_reserved_bytes

    if is_played(recipe):
        return sharded_reserved_bytes(model, recipe, gpu, steps)
    try:
        return played(loaded_model(model.census, recipe, habits).pools.copy())
    except OverflowError:  # more than the pools in C have addresses for
        return played(play_load(place(model.census, recipe), recipe, habits, PythonPools).pools)


def smallest_capacity_bytes(model: Model, recipe: Recipe, gpu: Gpu) -> int:
    """The least memory in which the whole run survives, to 2 MiB: found by playing it with less and less.

    Where a request finds no room, the allocator gives unused segments of both pools back first.

    Raises:
        FitproofError: as `plan` does.
    """
    try:
        return _smallest_capacity_bytes(model, recipe, gpu, fast_pools)
    except OverflowError:  # more than the pools in C have addresses for
        return _smallest_capacity_bytes(model, recipe, gpu, PythonPools)


def _smallest_capacity_bytes(model: Model, recipe: Recipe, gpu: Gpu, new_pools: Callable[..., Pools]) -> int:
    placed = place(model.census, recipe)
    # One more where all are of one length: what one gave back, the next may miss.
    lengths = _lengths(recipe) if recipe.training.padded else [*_lengths(recipe), recipe.length]
    steps = _steps(model, recipe, gpu, lengths, len(model.known_decoder().order))

    def played(capacity_bytes: int | None) -> Pools:
        expandable = recipe.training.expandable_segments
        pools = ExpandablePools(capacity_bytes) if expandable else new_pools(capacity_bytes=capacity_bytes)
        load_into(pools, placed, recipe)
        run = run_in(pools, model, recipe, gpu)
        for step in steps:
            run.play(step)
        return pools

    def survives(capacity_bytes: int) -> bool:
        try:
            played(capacity_bytes)
        except OutOfDeviceMemoryError:
            return False
        return True

    enough, too_little = played(None).peak_reserved_bytes // ROUND_LARGE_BYTES, 0
    while enough - too_little > 1:
        middle = (enough + too_little) // 2
        enough, too_little = (middle, too_little) if survives(middle * ROUND_LARGE_BYTES) else (enough, middle)
    return enough * ROUND_LARGE_BYTES


def _steps(model: Model, recipe: Recipe, gpu: Gpu, lengths: Sequence[int], layers_backward: int) -> list[Step]:
    """The step at each of `lengths`; equal lengths share one."""
    decoder = model.known_decoder()
    at_length = {
        length: step_of(decoder, traced_recipe(_of_length(recipe, length)), gpu, layers_backward=layers_backward)
        for length in set(lengths)
    }
    return [at_length[length] for length in lengths]


def _lengths(recipe: Recipe) -> list[int]:
    shares = VARYING_LENGTHS if recipe.training.padded else (1.0,) * _STEPS
    return [max(1, round(share * recipe.length)) for share in shares]


def _of_length(recipe: Recipe, length: int) -> Recipe:
    if length == recipe.length:
        return recipe
    return replace(recipe, training=recipe.training.model_copy(update={"max_length": length}))
