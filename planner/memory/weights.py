"""The base model: what is quantized and what is not, before and after preparation, and the loader's transients."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from planner import storage
from planner.errors import FieldProblem, InvalidRequestError
from planner.inventory import Census, TensorGroup
from planner.ledger import PHASES, Line
from planner.recipe import DTYPE_BYTES, Recipe
from planner.request import Quantization
from planner.storage import Stored
from planner.targets import indexed_names, is_skipped, output_rows
from planner.units import allocated

AFTER_LOAD = PHASES[1:]
BITSANDBYTES = "bitsandbytes/functional.py quantize_4bit, nn/modules.py"
KEPT_BY = "transformers/quantizers/base.py get_keys_to_not_convert"
UPCAST_BY = "peft/utils/other.py prepare_model_for_kbit_training"

_line = partial(Line, cause="weights", evidence="exact")

Part = Literal["embeddings and output head", "experts", "linear weights", "norms, biases and the rest"]
_PART_OF_ROLE: dict[str, Part] = {
    "embedding": "embeddings and output head",
    "head": "embeddings and output head",
    "expert": "experts",
    "linear": "linear weights",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """`count` equal tensors as the loader stores them and as they are once the model is prepared."""

    group: TensorGroup
    count: int
    quantized: bool
    loaded: Stored
    prepared: Stored

    @property
    def upcast(self) -> bool:
        """Whether preparation turns it into float32."""
        return self.loaded is not self.prepared


def place(census: Census, recipe: Recipe) -> list[Placed]:
    """Decide for every tensor how it is stored.

    Raises:
        InvalidRequestError: HQQ cannot cut a weight into whole groups.
    """
    placed = []
    for group in census:
        quantized_count = _quantized_count(group, recipe.quantization)
        if quantized_count:
            stored = _quantized(group, census, recipe)
            placed.append(_placed(group, quantized_count, quantized=True, loaded=stored, prepared=stored))
        if group.count > quantized_count:
            loaded, prepared = _plain(group, recipe)
            placed.append(
                _placed(group, group.count - quantized_count, quantized=False, loaded=loaded, prepared=prepared)
            )
    return placed


def weight_lines(placed: Sequence[Placed], recipe: Recipe, *, adapters_bytes: int) -> list[Line]:
    """All lines of the base model. `adapters_bytes` are made after the upcast, so the two never coincide."""
    lines = [*_quantized_lines([p for p in placed if p.quantized], recipe.quantization)]
    plain = [p for p in placed if not p.quantized]
    for part in (*dict.fromkeys(_PART_OF_ROLE.values()), "norms, biases and the rest"):
        lines += _plain_lines(part, [p for p in plain if _part(p.group) == part], recipe.model_dtype)
    return [*lines, _load_transient(placed), _upcast_transient(placed, adapters_bytes)]


def in_load_order(placed: Iterable[Placed]) -> list[Placed]:
    """As the loader takes them: by name, digits as numbers (core_model_loading.py dot_natural_key)."""
    return sorted(placed, key=lambda p: _natural_key(p.group.name))


def _placed(group: TensorGroup, count: int, *, quantized: bool, loaded: Stored, prepared: Stored) -> Placed:
    return Placed(group=group, count=count, quantized=quantized, loaded=loaded, prepared=prepared)


def _part(group: TensorGroup) -> Part:
    return _PART_OF_ROLE.get(group.role, "norms, biases and the rest")


def _quantized_count(group: TensorGroup, quantization: Quantization | None) -> int:
    """How many tensors of the group are quantized.

    `llm_int8_skip_modules` *replaces* the automatic list: an output head that it does not name is quantized
    (transformers 5.23, quantizers/base.py get_modules_to_not_convert).
    """
    if quantization is None:
        return 0
    patterns = quantization.llm_int8_skip_modules
    if patterns is None or quantization.quant_method == "hqq":
        return group.count if group.quantizable else 0
    is_linear = group.quantizable or (group.role == "head" and group.name.endswith(".weight"))
    if not is_linear or group.keeps_float32:
        return 0
    return sum(not is_skipped(name, patterns) for name in indexed_names(group))


def _quantized(group: TensorGroup, census: Census, recipe: Recipe) -> Stored:
    quantization = recipe.quantization or Quantization()
    load_itemsize_bytes = DTYPE_BYTES[recipe.model_dtype]
    if quantization.quant_method == "hqq":
        _refuse_uneven_groups(group, quantization.group_size)
        return storage.group_wise_int4(
            group.params_each,
            group_size=quantization.group_size,
            compute_itemsize_bytes=DTYPE_BYTES[recipe.compute_dtype],
        )
    if quantization.load_in_8bit:
        rows = output_rows(group, census)
        return storage.eight_bit(rows, group.params_each // rows, load_itemsize_bytes=load_itemsize_bytes)
    return storage.four_bit(
        group.params_each,
        double_quantization=quantization.bnb_4bit_use_double_quant,
        load_itemsize_bytes=load_itemsize_bytes,
    )


def _refuse_uneven_groups(group: TensorGroup, group_size: int) -> None:
    """hqq/core/quantize.py asserts that a weight divides into whole groups."""
    if group.params_each % group_size:
        problem = (
            f"{group.name} has {group.params_each:,} elements, not a multiple of {group_size}; take a smaller group"
        )
        raise InvalidRequestError(
            "HQQ cannot quantize this model in such groups.", [FieldProblem("quantization.group_size", problem)]
        )


def _plain(group: TensorGroup, recipe: Recipe) -> tuple[Stored, Stored]:
    """As loaded and as prepared. kbit preparation upcasts all but Params4bit and int8; not on HQQ models."""
    itemsize_bytes = 4 if group.keeps_float32 else DTYPE_BYTES[recipe.model_dtype]
    loaded = storage.dense(group.params_each, itemsize_bytes)
    if group.role == "expert" and len(group.shape) == 3:
        # The loader stacks the checkpoint's per-expert tensors: sources or halves and result coexist
        # (core_model_loading.py MergeModulelist, Concatenate).
        loaded = Stored(loaded.values_bytes, transient_bytes=loaded.values_bytes)
    hqq = recipe.quantization is not None and recipe.quantization.quant_method == "hqq"
    if not recipe.kbit_preparation or hqq or itemsize_bytes == 4:
        return loaded, loaded
    return loaded, storage.dense(group.params_each, 4)


def _quantized_lines(placed: Sequence[Placed], quantization: Quantization | None) -> list[Line]:
    if quantization is None or not placed:
        return []
    elements = sum(p.group.params_each * p.count for p in placed)
    kind, values, statistics, tables, source = _descriptions(quantization)
    double = quantization.load_in_4bit and quantization.bnb_4bit_use_double_quant

    tables_bytes = sum(p.loaded.tables_bytes * p.count for p in placed)
    sizes = (
        (f"quantized weights ({kind})", sum(p.loaded.values_bytes * p.count for p in placed), values),
        ("quantization statistics", sum(p.loaded.statistics_bytes * p.count for p in placed), statistics),
        ("code tables and offsets", tables_bytes + (allocated(storage.DYNAMIC_MAP_BYTES) if double else 0), tables),
    )
    return [
        _line(
            name=name,
            bytes=size_bytes,
            alive_in=PHASES,
            formula=f"Σ {formula}, each tensor rounded up to 512 bytes",
            working=f"n = {elements:,} in {sum(p.count for p in placed):,} weights",
            source=source,
        )
        for name, size_bytes, formula in sizes
    ]


def _descriptions(quantization: Quantization) -> tuple[str, str, str, str, str]:
    if quantization.quant_method == "hqq":
        size = quantization.group_size
        return f"int4, groups of {size}", "⌈n/2⌉", f"2 × e n/{size}", "0", "hqq/core/quantize.py Quantizer.quantize"
    if quantization.load_in_8bit:
        return "int8", "n", "4 N (row scales)", "0", "bitsandbytes/nn/modules.py Int8Params._quantize"
    if quantization.bnb_4bit_use_double_quant:
        tables = "(64 code + 1,024 nested code + 4 offset) per weight + 1,024 once"
        return quantization.bnb_4bit_quant_type, "⌈n/2⌉", "⌈n/64⌉ + 4 ⌈⌈n/64⌉/256⌉", tables, BITSANDBYTES
    return quantization.bnb_4bit_quant_type, "⌈n/2⌉", "4 ⌈n/64⌉", "64 code per weight", BITSANDBYTES


def _plain_lines(part: str, placed: Sequence[Placed], dtype: str) -> list[Line]:
    """Lines of what is not quantized; two where preparation changes the dtype: as loaded, and float32 from then on."""
    same, upcast = ([p for p in placed if p.upcast is flag] for flag in (False, True))
    kept_dtypes = "/".join(sorted({"float32" if p.group.keeps_float32 else dtype for p in same}))
    upcast_bytes = sum(p.prepared.values_bytes * p.count for p in upcast)
    return [
        _line(
            name=name,
            bytes=size_bytes,
            alive_in=alive_in,
            formula=f"{itemsize} n, each tensor rounded up to 512 bytes",
            working=f"n = {sum(p.group.params_each * p.count for p in chosen):,}",
            source=source,
        )
        for name, size_bytes, alive_in, itemsize, chosen, source in (
            (f"{part} ({kept_dtypes})", _loaded_bytes(same), PHASES, "e", same, KEPT_BY),
            (f"{part} (as loaded, {dtype})", _loaded_bytes(upcast), PHASES[:1], "e", upcast, KEPT_BY),
            (f"{part} (float32)", upcast_bytes, AFTER_LOAD, "4", upcast, UPCAST_BY),
        )
    ]


def _loaded_bytes(placed: Sequence[Placed]) -> int:
    return sum(p.loaded.values_bytes * p.count for p in placed)


def _load_transient(placed: Sequence[Placed]) -> Line:
    """Weights are quantized one at a time, in the order of their names: the worst moment is near the end."""
    return _line(
        name="loader's working copies",
        bytes=_worst_moment(in_load_order(placed), lambda p: p.loaded.total_bytes, lambda p: p.loaded.transient_bytes),
        alive_in=PHASES[:1],
        formula="source of the last weights in load dtype and their float32 maxima, less what is not loaded yet",
        evidence="modelled",
        source="transformers/core_model_loading.py convert_and_load_state_dict_in_model",
    )


def _upcast_transient(placed: Sequence[Placed], adapters_bytes: int) -> Line:
    """Preparation goes through parameters in module order: the 16-bit original lives until its copy is made."""
    upcast = [p for p in placed if p.upcast]
    grown_bytes = _worst_moment(
        upcast, lambda p: p.prepared.total_bytes - p.loaded.total_bytes, lambda p: p.loaded.values_bytes
    )
    return _line(
        name="originals during the upcast",
        bytes=max(0, grown_bytes - adapters_bytes),
        alive_in=("prepare",),
        formula="16-bit original of the last parameters, beyond the adapters made afterwards",
        working=f"{grown_bytes:,} - {adapters_bytes:,}",
        evidence="modelled",
        source=UPCAST_BY,
    )


def _worst_moment(in_order: Iterable[Placed], kept: Callable[[Placed], int], extra: Callable[[Placed], int]) -> int:
    """Largest excess over the final total while tensors are made one after another.

    Layers repeat, so only the last layer's tensors matter among them; what comes before the layers still has all
    layers ahead of it.
    """
    worst = after_in_last_layer = after_in_all = 0
    for placed in reversed(list(in_order)):
        layered = "*" in placed.group.name
        worst = max(worst, extra(placed) - (after_in_last_layer if layered else after_in_all))
        after_in_last_layer += kept(placed)
        after_in_all += kept(placed) * placed.count
    return worst


def _natural_key(name: str) -> list[tuple[int, int | str]]:
    """Digits compare as numbers, as core_model_loading.py dot_natural_key does."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"\.", name)]
