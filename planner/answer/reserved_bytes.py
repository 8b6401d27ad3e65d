"""Reserved bytes: what torch.cuda.max_memory_reserved() would read with memory in plenty.

The loader, the adapters and the first two training steps are played through the allocator's rules: the first makes the
optimizer's state in what its backward pass left free, the second has to do with what is left of that, and all later
ones reserve what it does. What is 1 MiB or smaller lives in a pool of its own, where pieces of 512 bytes leave next to
no holes: there the bytes alive count, in whole segments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from planner.allocator.caching_allocator import (
    ROUND_LARGE_BYTES,
    SMALL_SEGMENT_BYTES,
    SMALL_SIZE_BYTES,
    OutOfDeviceMemoryError,
)
from planner.allocator.expandable_segments import ExpandablePool
from planner.allocator.large_pool import LargePool
from planner.allocator.load_phase import INSTALLED, Habits, Pool, load_into
from planner.answer.static_lines import loaded_model, trained_tensors
from planner.gpu import Gpu
from planner.memory.optimizer import state_of, working_copies
from planner.memory.runtime import WORKSPACES, workspace_bytes
from planner.model.model import Model
from planner.request.optimizer_names import KEPT
from planner.request.recipe import Recipe
from planner.step import LAYERS_PLAYED_BACKWARD, Pattern, Step, step_of
from planner.tensors.tensor_storage import place
from planner.units import allocated, ceil_div

_STEPS = 2
# A run of unequal lengths, as the allocator meets them: the longest first, then five spread over 0.6 to 1.0 of it, the
# range the replays of memory-internals 6.1 had.
VARYING_LENGTHS = (1.0, 0.7, 0.9, 0.6, 0.8, 1.0)


def reserved_bytes(
    model: Model,
    recipe: Recipe,
    gpu: Gpu,
    *,
    layers_backward: int = LAYERS_PLAYED_BACKWARD,
    habits: Habits = INSTALLED,
) -> int:
    """Segments of both pools at their largest. `layers_backward` are played move by move, see timeline/moves.py.

    `habits`: how the model is loaded.

    Raises:
        FitproofError: as `plan` does.
    """
    run = _Run(loaded_model(model.census, recipe, habits).pool.copy(), model, recipe, gpu)
    for length in _lengths(recipe):
        at_length = _of_length(recipe, length)
        run.play(step_of(model.known_decoder(), at_length, gpu, layers_backward=layers_backward))
    return run.pool.peak_reserved_bytes + run.small_segments_bytes


def smallest_capacity_bytes(model: Model, recipe: Recipe, gpu: Gpu) -> int:
    """The least memory in which the whole run survives, to 2 MiB: found by playing it with less and less.

    The small pool gets what it needs; where the large one is short, the allocator gives unused segments back first.

    Raises:
        FitproofError: as `plan` does.
    """
    decoder, placed = model.known_decoder(), place(model.census, recipe)
    # One more where all are of one length: what one gave back, the next may miss.
    lengths = _lengths(recipe) if recipe.training.padded else [*_lengths(recipe), recipe.length]
    step_at = {
        length: step_of(decoder, _of_length(recipe, length), gpu, layers_backward=len(decoder.order))
        for length in lengths
    }

    def played(capacity_bytes: int | None) -> _Run:
        expandable = recipe.training.expandable_segments
        pool = ExpandablePool(capacity_bytes) if expandable else LargePool(capacity_bytes=capacity_bytes)
        load_into(pool, placed, recipe)
        run = _Run(pool, model, recipe, gpu)
        for length in lengths:
            run.play(step_at[length])
        return run

    def survives(capacity_bytes: int) -> bool:
        try:
            played(capacity_bytes)
        except OutOfDeviceMemoryError:
            return False
        return True

    plenty = played(None)
    enough, too_little = plenty.pool.peak_reserved_bytes // ROUND_LARGE_BYTES, 0
    while enough - too_little > 1:
        middle = (enough + too_little) // 2
        enough, too_little = (middle, too_little) if survives(middle * ROUND_LARGE_BYTES) else (enough, middle)
    return enough * ROUND_LARGE_BYTES + plenty.small_segments_bytes


class _Run:
    """A training run in the allocator: the large pool, and how much of the small one is taken."""

    def __init__(self, pool: Pool, model: Model, recipe: Recipe, gpu: Gpu) -> None:
        """In a pool that holds the prepared model, allocate the adapters beside it."""
        self.pool, self.recipe = pool, recipe
        self.small_bytes = self.peak_small_bytes = _small_weights_bytes(model, recipe)
        self.tensors = trained_tensors(model, recipe)
        if recipe.lora:
            self.keep((tensor.elements * tensor.itemsize_bytes, tensor.count) for tensor in self.tensors)
        # cuBLAS takes one in the thread that runs forward and one in autograd's, at the first product in each.
        self.workspaces = [workspace_bytes(gpu.compute_capability)] * WORKSPACES
        self.has_states = False

    @property
    def small_segments_bytes(self) -> int:
        """What the small pool reserved at most."""
        return ceil_div(self.peak_small_bytes, SMALL_SEGMENT_BYTES) * SMALL_SEGMENT_BYTES

    def keep(self, sizes: Iterable[tuple[int, int]]) -> list[int]:
        """Allocate (bytes, how many) of each; returns the large ones' addresses."""
        addresses = []
        for size, count in sizes:
            if size > SMALL_SIZE_BYTES:
                addresses += [self.pool.allocate(size) for _ in range(count)]
            else:
                self._take(allocated(size) * count)
        return addresses

    def play(self, step: Step) -> None:
        """One step from the first token to the end of the optimizer's."""
        before_bytes, places = self.small_bytes, self._play_scenes(step)
        self._free(step, places, step.script.left)
        states_bytes = self._make_states()
        for address in self.keep(working_copies(self.tensors, self.recipe.training.optim)):
            self.pool.free(address)
        self._free(step, places, step.script.gradients)
        self.small_bytes = before_bytes + states_bytes

    def _make_states(self) -> int:
        """The optimizer's, in its first step; returns what they add to the small pool, in bytes."""
        before_bytes = self.small_bytes
        if not self.has_states:
            # The maxima of 8-bit buffers are split between them.
            parts = max(1, sum(KEPT[self.recipe.training.optim].buffers))
            states = (state_of(tensor, self.recipe.training.optim).device_bytes // parts for tensor in self.tensors)
            self.keep((size, parts * tensor.count) for size, tensor in zip(states, self.tensors, strict=True))
            self.has_states = True
        return self.small_bytes - before_bytes

    def _take_workspace(self) -> None:
        if self.workspaces:
            self.keep([(self.workspaces.pop(), 1)])

    def _play_scenes(self, step: Step) -> list[int]:
        """Returns where the tensors are that outlived their scene."""
        places = [0] * step.script.slots
        parts = {id(pattern): _Sized.of(pattern, step.sizes) for pattern in step.script.patterns}
        for number, scene in enumerate(step.script.scenes):
            if number in {0, step.script.product}:
                self._take_workspace()
            part, highest_bytes = parts[id(scene.pattern)], parts[id(scene.whole)].highest_small_bytes
            self.peak_small_bytes = max(self.peak_small_bytes, self.small_bytes + highest_bytes)
            self.small_bytes += part.net_small_bytes
            if part.large:
                numbered = [places[slot] for slot in scene.freed] + [0] * scene.pattern.made
                self.pool.play(part.large, numbered)
                for slot, made in zip(scene.left, scene.pattern.left, strict=True):
                    places[slot] = numbered[made]
        return places

    def _free(self, step: Step, places: Sequence[int], taken: Iterable[tuple[int, int]]) -> None:
        for index, slot in taken:
            if step.sizes[index] > SMALL_SIZE_BYTES:
                self.pool.free(places[slot])
            else:
                self.small_bytes -= step.sizes[index]

    def _take(self, size_bytes: int) -> None:
        self.small_bytes += size_bytes
        self.peak_small_bytes = max(self.peak_small_bytes, self.small_bytes)


@dataclass(frozen=True, slots=True)
class _Sized:
    """A pattern with its bytes: its moves in the large pool, and what it adds to the small one, at most and at last."""

    large: Sequence[tuple[int, int]]
    highest_small_bytes: int
    net_small_bytes: int

    @classmethod
    def of(cls, pattern: Pattern, sizes: Sequence[int]) -> "_Sized":
        moves = [(sizes[index], number) for index, number in pattern.moves]
        small = [size if number >= 0 else -size for size, number in moves if size <= SMALL_SIZE_BYTES]
        return cls(
            [move for move in moves if move[0] > SMALL_SIZE_BYTES], max(accumulate(small, initial=0)), sum(small)
        )


def _small_weights_bytes(model: Model, recipe: Recipe) -> int:
    """The part of the prepared model that lives in the small pool."""
    total_bytes = 0
    for item in place(model.census, recipe):
        stored = item.prepared
        parts = (stored.values_bytes, stored.statistics_bytes)
        small_bytes = stored.tables_bytes + sum(size for size in parts if size <= SMALL_SIZE_BYTES)
        total_bytes += small_bytes * item.count
    return total_bytes


def _lengths(recipe: Recipe) -> list[int]:
    shares = VARYING_LENGTHS if recipe.training.padded else (1.0,) * _STEPS
    return [max(1, round(share * recipe.length)) for share in shares]


def _of_length(recipe: Recipe, length: int) -> Recipe:
    if length == recipe.length:
        return recipe
    return replace(recipe, training=recipe.training.model_copy(update={"max_length": length}))
