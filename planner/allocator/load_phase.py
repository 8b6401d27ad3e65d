"""Loading, played through the allocator: the holes it leaves, and the slack of its blocks.

Slack is what the caching allocator counts as allocated beyond the tensors once the model is loaded.

A free block of the large pool is cut only when more than 1 MiB would be left (c10/cuda/CUDACachingAllocator.cpp,
should_split); otherwise the tensor gets the whole block, and `torch.cuda.memory_allocated()` counts it. Quantizing
weight after weight leaves holes of sizes where that happens, so the loader's own order is played through the
allocator's rules, tensor by tensor. Expandable segments always cut, and the small pool cuts to 512 bytes: neither has
slack.
Error: what the step adds on top (a few blocks of at most 1 MiB) is not in it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from planner.allocator.expandable_segments import ExpandablePools
from planner.allocator.native_load import Piece, load_natively
from planner.allocator.native_pools import FastPools, NativePools, fast_pools
from planner.allocator.python_pools import PythonPools
from planner.allocator.threaded_load import race
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.tensors.inventory import Layers
from planner.tensors.storage_formats import (
    BLOCK_ELEMENTS,
    CODE_TABLE_BYTES,
    DYNAMIC_MAP_BYTES,
    NESTED_BLOCK_ELEMENTS,
    OFFSET_BYTES,
)
from planner.tensors.tensor_storage import Placed, in_load_order, is_stacked_when_loaded
from planner.units import allocated, ceil_div


@dataclass(frozen=True, slots=True)
class Loaded:
    """The pools once the model is prepared, and the bytes its blocks had beyond the tensors, then and before."""

    pools: FastPools
    loaded_slack_bytes: int
    prepared_slack_bytes: int


Pools = FastPools | ExpandablePools


@dataclass(frozen=True, slots=True)
class Habits:
    """How a release of the libraries loads; as they stand, torch 2.14, transformers 5.23 and peft 0.21.

    `threads_seed`: transformers 5.0's threads copy while the main thread quantizes; a seed is one way their race goes.
    `keeps_cache`: before 0.20, peft did not empty the cache after its float32 upcast. `moved`: the model was loaded in
    host memory and then moved, module by module, with no block of the whole model's size taken before. `oldest_first`:
    of equally large free blocks, torch's allocator takes the oldest segment's; before 2.14, the lowest address's.
    """

    threads_seed: int | None = None
    keeps_cache: bool = False
    moved: bool = False
    oldest_first: bool = True


INSTALLED = Habits()


def play_load(
    placed: Sequence[Placed],
    recipe: Recipe,
    habits: Habits = INSTALLED,
    new_pools: Callable[..., FastPools] = fast_pools,
) -> Loaded:
    """Load and prepare a model with memory in plenty."""
    pools = new_pools(expandable=recipe.training.expandable_segments, oldest_first=habits.oldest_first)
    try:
        loaded_slack_bytes, prepared_slack_bytes = load_into(pools, placed, recipe, habits)
    except OverflowError:  # more than the pools in C have addresses for
        return play_load(placed, recipe, habits, PythonPools)
    return Loaded(pools, loaded_slack_bytes, prepared_slack_bytes)


def load_into(
    pools: Pools,
    placed: Sequence[Placed],
    recipe: Recipe,
    habits: Habits = INSTALLED,
    values: dict[int, list[int]] | None = None,
) -> tuple[int, int]:
    """Play loading and, on the kbit path, the float32 upcast through the allocator.

    Returns the slack once loaded and once prepared. Into `values` go the handles of each item's values by its id(),
    layer after layer.

    Source: the order of operations as the dry run records it; transformers 5.23 core_model_loading.py (one parameter
    at a time when it quantizes) behind modeling_utils.py caching_allocator_warmup; peft 0.21.2 utils/other.py, which
    empties the cache after its upcast.

    Raises:
        OutOfDeviceMemoryError: the pool's capacity does not allow it.
    """
    if not habits.moved and (recipe.quantization is None or recipe.quantization.quant_method != "hqq"):
        # One block as large as the model will be, taken and freed: everything after is carved out of it.
        pools.free(pools.allocate(_warm_up_bytes(placed, recipe)))
    order = placed if habits.moved else in_load_order(placed)
    plain: dict[int, list[int]] = {}
    tensor_bytes = 0
    for item, kept in _loads(pools, list(_one_by_one(order)), recipe, habits):
        tensor_bytes += sum(size for size, _ in kept)
        if item.upcast:
            plain.setdefault(id(item), []).extend(handle for _, handle in kept)
        elif values is not None:
            values.setdefault(id(item), []).append(_values_of(item, kept))
    loaded_slack_bytes = pools.allocated_bytes - tensor_bytes
    upcast = [item for item in placed if item.upcast]
    for item in _one_by_one(upcast):
        wide = pools.allocate(item.prepared.values_bytes)
        pools.free(plain[id(item)].pop(0))
        if values is not None:
            values.setdefault(id(item), []).append(wide)
        tensor_bytes += item.prepared.values_bytes - item.loaded.values_bytes
    if upcast and not habits.keeps_cache:
        pools.empty_cache()
    return loaded_slack_bytes, pools.allocated_bytes - tensor_bytes


# (bytes, handle) of the tensors that stay.
Kept = list[tuple[int, int]]


# A piece and the handles of its tensors.
_Made = tuple[Piece, Sequence[int]]


def _values_of(item: Placed, kept: Kept) -> int:
    """The handle of a weight's values among what loading it made; statistics and tables are of other sizes."""
    return next(handle for size, handle in kept if size == allocated(item.loaded.values_bytes))


def _loads(pools: Pools, items: Sequence[Placed], recipe: Recipe, habits: Habits) -> Iterator[tuple[Placed, Kept]]:
    """Load one tensor after the other, or let threads copy ahead."""
    pieces = _all_pieces(items, recipe)
    if habits.threads_seed is None and isinstance(pools, NativePools):
        for item, own, handles in zip(items, pieces, load_natively(pools, pieces), strict=True):
            stay = chain.from_iterable([allocated(piece.size_bytes)] * piece.count for piece in own if piece.stays)
            yield item, list(zip(stay, handles, strict=True))
        return
    if habits.threads_seed is None:
        for item, own in zip(items, pieces, strict=True):
            yield item, _make(pools, [], own)
        return
    copies: dict[int, _Made] = {}
    for what, index in race([first.size_bytes * first.count for first, *_ in pieces], habits.threads_seed):
        if what == "copied":
            copies[index] = _copy(pools, pieces[index][0])
        else:
            yield items[index], _make(pools, [copies.pop(index)], pieces[index][1:])


def _copy(pools: Pools, piece: Piece) -> _Made:
    return piece, [pools.allocate(piece.size_bytes) for _ in range(piece.count)]


def _make(pools: Pools, made: list[_Made], rest: Iterable[Piece]) -> Kept:
    """Make the rest of a weight's pieces; temporaries that are left are freed in reverse order."""
    kept: Kept = []
    passing: list[int] = []
    for piece, handles in chain(made, (_copy(pools, piece) for piece in rest)):
        _free(pools, passing[: piece.ends])
        del passing[: piece.ends]
        if piece.stays:
            kept.extend((allocated(piece.size_bytes), handle) for handle in handles)
        else:
            passing.extend(handles)
    _free(pools, passing[::-1])
    return kept


def _free(pools: Pools, handles: Sequence[int]) -> None:
    for handle in handles:
        pools.free(handle)


def _all_pieces(items: Sequence[Placed], recipe: Recipe) -> list[list[Piece]]:
    """What each weight makes. bitsandbytes copies its map of 8-bit values to the card with the first weight it nests.

    Source: bitsandbytes 0.50 functional.py quantize_blockwise, name2qmap.
    """
    quantization = recipe.quantization
    known = {id(item): list(_pieces(item, recipe)) for item in items}
    pieces = [known[id(item)] for item in items]
    if quantization and quantization.load_in_4bit and quantization.bnb_4bit_use_double_quant:
        first = next((index for index, item in enumerate(items) if item.quantized), None)
        if first is not None:
            *before, nested, codes, own_map = pieces[first]
            pieces[first] = [*before, Piece(DYNAMIC_MAP_BYTES, stays=True), nested, codes, own_map]
    return pieces


def _pieces(item: Placed, recipe: Recipe) -> Iterator[Piece]:
    """Every tensor that loading one weight makes, in order."""
    elements, quantization = item.group.params_each, recipe.quantization
    if not item.quantized or quantization is None:
        plain = Piece(item.loaded.values_bytes, stays=True)
        yield from _stacked(item) if is_stacked_when_loaded(item.group) else [plain]
        return
    source_bytes = DTYPE_BYTES[recipe.model_dtype] * elements
    if quantization.load_in_4bit:
        blocks = ceil_div(elements, BLOCK_ELEMENTS)
        double = quantization.bnb_4bit_use_double_quant
        # bitsandbytes/backends/cuda/ops.py, _quantize_4bit_impl: the statistics come before the packed values.
        yield Piece(source_bytes, stays=False)
        yield Piece(4 * blocks, stays=not double)
        yield Piece(ceil_div(elements, 2), stays=True)
        yield Piece(CODE_TABLE_BYTES, stays=True)
        if double:
            yield Piece(OFFSET_BYTES, stays=True)
            yield Piece(4 * blocks, stays=False)
            yield Piece(4 * ceil_div(blocks, NESTED_BLOCK_ELEMENTS), stays=True)
            yield Piece(blocks, stays=True)
            yield Piece(DYNAMIC_MAP_BYTES, stays=True)
    elif quantization.load_in_8bit:
        yield Piece(source_bytes, stays=False)
        yield Piece(2 * elements, stays=False)
        yield Piece(item.loaded.statistics_bytes, stays=True)
        yield Piece(elements, stays=True)
    elif quantization.quant_method != "hqq":
        # Of a quantized checkpoint every tensor is loaded as it is stored.
        yield Piece(item.loaded.values_bytes, stays=True)
        yield Piece(item.loaded.statistics_bytes, stays=True)
        yield Piece(item.loaded.tables_bytes, stays=True)
    else:
        # HQQ solves on copies of its own and moves the result over (hqq/core/quantize.py HQQLinear.cuda).
        yield Piece(item.loaded.values_bytes, stays=True)
        yield Piece(item.loaded.statistics_bytes // 2, stays=True)
        yield Piece(item.loaded.statistics_bytes // 2, stays=True)


def _stacked(item: Placed) -> Iterator[Piece]:
    """A layer's experts, of which the checkpoint has a tensor each, gate and up apart.

    Each kind is copied to the card expert by expert and stacked; gate and up are then joined.
    Source: transformers 5.23 core_model_loading.py, WeightConverter.convert, MergeModulelist, Concatenate.
    """
    experts, kinds = item.group.shape[0], 2 if item.group.name.endswith("gate_up_proj") else 1
    kind_bytes = item.loaded.values_bytes // kinds
    yield Piece(kind_bytes // experts, stays=False, count=kinds * experts)
    for _ in range(kinds - 1):
        yield Piece(kind_bytes, stays=False, ends=experts)
    yield Piece(kind_bytes, stays=kinds == 1, ends=experts)
    if kinds > 1:
        yield Piece(item.loaded.values_bytes, stays=True, ends=kinds)


def _warm_up_bytes(placed: Sequence[Placed], recipe: Recipe) -> int:
    """Half a byte per 4-bit parameter, one per 8-bit parameter, the load dtype for the rest."""
    quantization = recipe.quantization
    halves = 2 if quantization and (quantization.load_in_8bit or quantization.quant_method == "fp8") else 1
    return sum(p.count * (p.group.params_each * halves // 2 if p.quantized else p.loaded.values_bytes) for p in placed)


def _one_by_one(placed: Sequence[Placed]) -> Iterator[Placed]:
    """Every tensor in turn: what has layers layer after layer, each with the tensors that it has."""
    for stem, run in groupby(placed, key=lambda item: item.group.name.partition("*")[0]):
        items = list(run)
        if items[0].group.name == stem:
            for item in items:
                yield from [item] * item.count
            continue
        having = [_layers_of(item) for item in items]
        for layer in range(max(map(max, having)) + 1):
            yield from (item for item, layers in zip(items, having, strict=True) if layer in layers)


def _layers_of(item: Placed) -> Layers:
    """The layers that have it; the first ones, where some of a group are stored otherwise."""
    layers = item.group.layers
    return layers if len(layers) == item.count else range(item.count)
