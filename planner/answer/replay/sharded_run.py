"""A run of FSDP1 in the allocator: each stream's memory, with the step's own moves between those of its units."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from planner.allocator.load_phase import load_into
from planner.allocator.native_pools import FastPools, fast_pools
from planner.allocator.python_pools import PythonPools
from planner.allocator.stream_pools import Lent, StreamPools
from planner.answer.replay.played_run import Run, run_of
from planner.answer.static_lines import trained_tensors
from planner.gpu import Gpu
from planner.model.model import Model
from planner.parallel.flat_units import FlatUnits
from planner.parallel.fsdp1_play import Fsdp1Options, Fsdp1Play, Stream
from planner.parallel.units import is_cut, units_of
from planner.request.parallel import Fsdp
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step import Step
from planner.tensors.tensor_storage import place
from planner.tensors.trainable import module_by_module


def sharded_reserved_bytes(model: Model, recipe: Recipe, gpu: Gpu, steps: Sequence[Step]) -> int:
    """Segments of all streams, once `steps` are played."""
    try:
        return _reserved_bytes(model, recipe, gpu, steps, partial(fast_pools, expandable=_expandable(recipe)))
    except OverflowError:  # more than the pools in C have addresses for
        return _reserved_bytes(model, recipe, gpu, steps, partial(PythonPools, expandable=_expandable(recipe)))


def _expandable(recipe: Recipe) -> bool:
    return recipe.training.expandable_segments


def _reserved_bytes(
    model: Model, recipe: Recipe, gpu: Gpu, steps: Sequence[Step], new_pools: Callable[[], FastPools]
) -> int:
    units = _units_of(model, recipe)
    computation = new_pools()
    streams: StreamPools[Stream] = StreamPools("computation", computation, new_pools)
    options = recipe.strategy if isinstance(recipe.strategy, Fsdp) else Fsdp()
    own = Fsdp1Options(
        frees=options.reshard_after_forward, on_host=options.cpu_offload, replicated=options.hybrid_shard,
        prefetch=options.backward_prefetch,
    )  # fmt: skip
    play = Fsdp1Play(streams, units, own)
    play.cut(_loaded(computation, units, model, recipe, gpu) if recipe.quantization else {})
    on_card = () if recipe.layout.optimizer_on_host else units.trained_on_first_card()
    run = run_of(computation, on_card, recipe, gpu)
    for step in steps:
        _play_step(run, play, step)
    return streams.reserved_bytes


def _loaded(
    pools: FastPools, units: FlatUnits, model: Model, recipe: Recipe, gpu: Gpu
) -> dict[tuple[int, int] | None, list[Lent[Stream]]]:
    """A quantized model and its adapters, whole on the card before they are cut; what is cut, by unit."""
    placed, layers = place(model.census, recipe), model.known_decoder().layers
    values: dict[int, list[int]] = {}
    load_into(pools, placed, recipe, values=values)
    tensors = trained_tensors(model, recipe)
    adapters = run_of(pools, tensors, recipe, gpu).make_adapters(by_products=False)
    in_layers = [tensor.name for tensor in tensors if "*" in tensor.name]
    # The layer's own unit comes behind its adapters'; without frozen parameters it is the only one.
    own = len(units.adapters)
    found: defaultdict[tuple[int, int] | None, list[Lent[Stream]]] = defaultdict(list)
    made = Counter[str]()
    for tensor, handle in zip(module_by_module([each for each in tensors if not each.own]), adapters, strict=True):
        layer = made[tensor.name] * layers // tensor.count
        made[tensor.name] += 1
        unit = (layer, min(in_layers.index(tensor.name), own)) if "*" in tensor.name else None
        found[unit].append(Lent("computation", handle))
    for item in placed:
        if not is_cut(item, recipe):
            continue
        for number, handle in enumerate(values[id(item)]):
            unit = (number * layers // item.count, own) if "*" in item.group.name else None
            found[unit].append(Lent("computation", handle))
    return found


def _units_of(model: Model, recipe: Recipe) -> FlatUnits:
    adapters = trained_tensors(model, recipe) if recipe.lora else ()
    placed = place(model.census, recipe)
    by_layer = not isinstance(recipe.strategy, Fsdp) or recipe.strategy.auto_wrap
    units = units_of(placed, adapters, recipe, model.known_decoder().layers, by_layer=by_layer)
    untied = any(item.group.role == "head" for item in placed)
    tied_elements = 0 if untied else sum(item.group.params_each for item in placed if item.group.role == "embedding")
    shards, model_bytes = recipe.layout.parameter_shards, DTYPE_BYTES[recipe.model_dtype]
    return FlatUnits.of(units, shards, model_bytes=model_bytes, tied_elements=tied_elements)


def _play_step(run: Run, play: Fsdp1Play, step: Step) -> None:
    places, gradients = run.new_places(step), frozenset(step.script.gradients)
    play.begin_step()
    waiting: list[Lent[Stream]] = []
    backward = has_looked = False
    for instances, phase, is_layer in step.script.segments:
        of_layer = is_layer and phase != "loss" and play.has_layers
        if phase == "backward" and not backward:
            play.begin_backward()
            backward = True
        if is_layer and not has_looked:
            play.look_at_packing()
            has_looked = True
        if of_layer:
            play.before_layer(phase)
        run.play_instances(step, places, instances)
        left = [slot for number in instances for slot in step.script.instances[number].left if slot in gradients]
        made: list[Lent[Stream]] = [Lent("computation", places[slot]) for slot in left]
        if of_layer:
            play.after_layer(phase, made)
        else:
            waiting += made
    play.end_backward(waiting)
    run.finish(step, places)
