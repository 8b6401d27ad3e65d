"""A training run in the allocator: what the loader left, the adapters, then step after step.

What is 1 MiB or smaller lives in a pool of its own, where pieces of 512 bytes leave next to no holes: there the bytes
alive count, in whole segments.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from planner.allocator.caching_allocator import SMALL_SEGMENT_BYTES, SMALL_SIZE_BYTES
from planner.allocator.load_phase import Pool, load_into
from planner.allocator.native_pool import NativePool
from planner.answer.flat_script import flat_pairs, flat_script
from planner.answer.static_lines import trained_tensors
from planner.gpu import Gpu
from planner.memory.optimizer import state_of, working_copies
from planner.memory.runtime import WORKSPACES, workspace_bytes
from planner.model.model import Model
from planner.request.optimizer_names import KEPT
from planner.request.recipe import Recipe
from planner.step import Pattern, Step
from planner.step.scenes import Moves
from planner.tensors.tensor_storage import place
from planner.units import allocated, ceil_div


def run_in(pool: Pool, model: Model, recipe: Recipe, gpu: Gpu) -> "Run":
    """A run in a pool that holds the prepared model, with the adapters allocated beside it."""
    return NativeRun(pool, model, recipe, gpu) if isinstance(pool, NativePool) else Run(pool, model, recipe, gpu)


class Run:
    """The large pool, and how much of the small one is taken."""

    def __init__(self, pool: Pool, model: Model, recipe: Recipe, gpu: Gpu) -> None:
        self.pool, self.recipe = pool, recipe
        self.small_bytes = self.peak_small_bytes = _small_weights_bytes(model, recipe)
        self.tensors = trained_tensors(model, recipe)
        if recipe.lora:
            self.keep((tensor.elements * tensor.itemsize_bytes, tensor.count) for tensor in self.tensors)
        if recipe.reference == "copy":
            own = recipe.of_reference_model
            load_into(pool, place(model.census, own), own)
            self._take(_small_weights_bytes(model, own))
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
            optim = self.recipe.training.optim
            # The maxima of 8-bit buffers are split between them; a step counted on the card is a tensor of its own.
            parts, steps_bytes = max(1, sum(KEPT[optim].buffers)), allocated(4) * KEPT[optim].step_on_card
            for tensor in self.tensors:
                size = (state_of(tensor, optim).device_bytes - steps_bytes) // parts
                self.keep(((steps_bytes, tensor.count), (size, parts * tensor.count)))
            self.has_states = True
        return self.small_bytes - before_bytes

    def _take_workspace(self) -> None:
        if self.workspaces:
            self.keep([(self.workspaces.pop(), 1)])

    def _play_scenes(self, step: Step) -> Sequence[int]:
        """Returns where the tensors are that outlived their scene."""
        places = [0] * step.script.slots
        parts = {id(pattern): _Sized.of(pattern, step.sizes) for pattern in step.script.patterns}
        for number, scene in enumerate(step.script.scenes):
            if number in {step.script.forward_product, step.script.product}:
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

    def _free(self, step: Step, places: Sequence[int], taken: Moves) -> None:
        for index, slot in taken:
            if step.sizes[index] > SMALL_SIZE_BYTES:
                self.pool.free(places[slot])
            else:
                self.small_bytes -= step.sizes[index]

    def _take(self, size_bytes: int) -> None:
        self.small_bytes += size_bytes
        self.peak_small_bytes = max(self.peak_small_bytes, self.small_bytes)


class NativeRun(Run):
    """The same, with what happens often done in C."""

    pool: NativePool
    _sized: tuple[Step, "array[int]"] | None = None

    def keep(self, sizes: Iterable[tuple[int, int]]) -> list[int]:
        """Allocate (bytes, how many) of each; returns the large ones' blocks."""
        blocks: list[int] = []
        for size, count in sizes:
            if size > SMALL_SIZE_BYTES:
                blocks += self.pool.allocate_many(size, count)
            else:
                self._take(allocated(size) * count)
        return blocks

    def _play_scenes(self, step: Step) -> Sequence[int]:
        script, sizes = flat_script(step.script), self._sizes_of(step)
        places, last = array("i", bytes(4 * step.script.slots)), len(step.script.scenes)
        products = (min(number, last) for number in (step.script.forward_product, step.script.product))
        for number, (first, end) in enumerate(pairwise((0, *products, last))):
            if number and first < end:
                self._take_workspace()
            small = array("q", (self.small_bytes, self.peak_small_bytes))
            self.pool.play_scenes(script, sizes, places, range(first, end), small)
            self.small_bytes, self.peak_small_bytes = small
        return places

    def _free(self, step: Step, places: Sequence[int], taken: Moves) -> None:
        blocks = array("i", places)
        self.small_bytes -= self.pool.free_pairs(flat_pairs(taken), self._sizes_of(step), blocks)

    def _sizes_of(self, step: Step) -> "array[int]":
        if self._sized is None or self._sized[0] is not step:
            self._sized = step, array("q", step.sizes)
        return self._sized[1]


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
