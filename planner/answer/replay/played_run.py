"""A training run in the allocator: what the loader left, the adapters, then step after step, tensor by tensor."""

from array import array
from collections.abc import Sequence
from itertools import pairwise

from planner.allocator.caching_allocator import SMALL_SIZE_BYTES
from planner.allocator.load_phase import Pools, load_into
from planner.allocator.native_pools import NativePools
from planner.answer.replay.flat_script import flat_script
from planner.answer.replay.made_once import MadeOnce, made_once
from planner.answer.static_lines import summing_of, trained_tensors
from planner.gpu import Gpu
from planner.memory.runtime import workspace_bytes
from planner.model.model import Model
from planner.request.recipe import Recipe
from planner.step import Step
from planner.step.pattern_instances import PatternInstance
from planner.tensors.tensor_storage import place
from planner.tensors.trainable import Trainable


def run_in(pools: Pools, model: Model, recipe: Recipe, gpu: Gpu) -> "Run":
    """A run in pools that hold the prepared model, with the adapters allocated beside it."""
    run = run_of(pools, trained_tensors(model, recipe), recipe, gpu)
    if recipe.lora:
        run.make_adapters(by_products=recipe.lora.use_dora)
    if recipe.reference == "copy":
        own = recipe.of_reference_model
        load_into(pools, place(model.census, own), own)
    return run


def run_of(pools: Pools, tensors: tuple[Trainable, ...], recipe: Recipe, gpu: Gpu) -> "Run":
    """A run that updates `tensors`, in pools that hold whatever is there before its first step."""
    training, summing = recipe.training, summing_of(recipe, gpu)
    made = made_once(tensors, training.optim, summing, embeddings_in_32bit=recipe.by_trainer)
    kind = NativeRun if isinstance(pools, NativePools) else Run
    return kind(pools, made, workspace_bytes(gpu.compute_capability), clips=training.max_grad_norm > 0)


class Run:
    """Pools, and what is still to be made in them. `each_workspace_bytes`: of one of cuBLAS's two."""

    def __init__(self, pools: Pools, made: MadeOnce, each_workspace_bytes: int, *, clips: bool) -> None:
        self.pools, self.made, self.clips = pools, made, clips
        # cuBLAS takes one in the thread that runs forward and one in autograd's, at the first product in each.
        self.workspaces = dict.fromkeys(("forward", "backward"), each_workspace_bytes)
        self.has_states = False
        # Moves of a step's instance by which step, pattern, and what of it is played.
        self._moves: dict[tuple[int, int, bool, bool], list[tuple[int, int]]] = {}

    def play(self, step: Step) -> None:
        """One step from the first token to the end of the optimizer's."""
        places = self.new_places(step)
        self.play_instances(step, places, range(len(step.script.instances)))
        self.finish(step, places)
        self._free_slots(step.script.gradients, places)

    def finish(self, step: Step, places: Sequence[int]) -> None:
        """What goes when the backward pass is over, and the optimizer's step; gradients are still there."""
        self._free_slots(step.script.left, places)
        if self.clips:
            self._free(self._keep(self.made.norms))
        if not self.has_states:
            self._keep(self.made.states)
            self.has_states = True
        self._free(self._keep(self.made.copies))

    def make_adapters(self, *, by_products: bool) -> Sequence[int]:
        """All in the dtype of their layers, then cast tensor by tensor; returns their handles.

        `by_products`: DoRA's first magnitudes are norms of products (peft/tuners/lora/dora.py).
        """
        if by_products:
            self._take_workspace("forward")
        handles = self._keep(self.made.adapters)
        for sizes in self.made.casts:
            handles = self._cast(sizes, handles)
        return handles

    def _take_workspace(self, thread: str) -> None:
        size = self.workspaces.pop(thread, 0)
        if size:
            self.pools.allocate(size)

    def _keep(self, sizes: "array[int]") -> Sequence[int]:
        """Allocate one tensor for each of `sizes`; returns their handles."""
        return [self.pools.allocate(size) for size in sizes]

    def _cast(self, sizes: "array[int]", handles: Sequence[int]) -> Sequence[int]:
        """Make a tensor of each size that is not 0 in place of the one before; returns the handles there are then."""
        cast = list(handles)
        for number, size in enumerate(sizes):
            if size:
                cast[number] = self.pools.allocate(size)
                self.pools.free(handles[number])
        return cast

    def _free(self, handles: Sequence[int]) -> None:
        for handle in handles:
            self.pools.free(handle)

    def _free_slots(self, slots: "array[int]", places: Sequence[int]) -> None:
        self._free([places[slot] for slot in slots])

    def new_places(self, step: Step) -> "list[int] | array[int]":
        """Where the tensors of a step will be that outlive their instance."""
        return [0] * step.script.slots

    def play_instances(self, step: Step, places: "list[int] | array[int]", instances: range) -> None:
        """Play some of a step's instances."""
        for number in instances:
            instance = step.script.instances[number]
            if number == step.script.forward_product:
                self._take_workspace("forward")
            if number == step.script.product:
                self._take_workspace("backward")
            numbered = [places[slot] for slot in instance.freed] + [0] * instance.pattern.made
            key = (id(step), id(instance.pattern), instance.large, instance.small)
            if key not in self._moves:
                self._moves[key] = _moves_of(instance, step.sizes)
            self.pools.play(self._moves[key], numbered)
            for slot, made in zip(instance.left, instance.pattern.left, strict=True):
                places[slot] = numbered[made]


def _moves_of(instance: PatternInstance, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The moves that are played, with their bytes."""
    return [
        (sizes[index], number)
        for index, number, passes in instance.pattern.each_move()
        if not passes or (instance.small if sizes[index] <= SMALL_SIZE_BYTES else instance.large)
    ]


def as_array(numbers: Sequence[int]) -> "array[int]":
    """Handles as the C takes them."""
    return numbers if isinstance(numbers, array) else array("i", numbers)


class NativeRun(Run):
    """The same, with what happens often done in C."""

    pools: NativePools
    _sized: tuple[Step, "array[int]"] | None = None

    def _keep(self, sizes: "array[int]") -> "array[int]":
        return self.pools.allocate_many(sizes)

    def _cast(self, sizes: "array[int]", handles: Sequence[int]) -> "array[int]":
        cast = as_array(handles)
        self.pools.cast_many(sizes, cast)
        return cast

    def _free(self, handles: Sequence[int]) -> None:
        self.pools.free_many(as_array(handles))

    def _free_slots(self, slots: "array[int]", places: Sequence[int]) -> None:
        self.pools.free_slots(slots, as_array(places))

    def new_places(self, step: Step) -> "list[int] | array[int]":
        """As Run's."""
        return array("i", bytes(4 * step.script.slots))

    def play_instances(self, step: Step, places: "list[int] | array[int]", instances: range) -> None:
        """As Run's."""
        script, sizes = flat_script(step.script), self._sizes_of(step)
        first_products = (step.script.forward_product, step.script.product)
        products = (min(max(number, instances.start), instances.stop) for number in first_products)
        threads = ("", "forward", "backward")
        for thread, (first, end) in zip(threads, pairwise((instances.start, *products, instances.stop)), strict=True):
            if thread and first < end:
                self._take_workspace(thread)
            if first < end:
                self.pools.play_instances(script, sizes, as_array(places), range(first, end))

    def _sizes_of(self, step: Step) -> "array[int]":
        if self._sized is None or self._sized[0] is not step:
            self._sized = step, array("q", step.sizes)
        return self._sized[1]
