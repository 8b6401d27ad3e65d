"""How each tensor of the base model is stored: as loaded, once prepared, and from the first step on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from planner.errors import FieldProblem, InvalidRequestError
from planner.request.dtypes import Dtype
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.request.schema import Quantization
from planner.request.validation.patterns import SkipList
from planner.tensors import storage_formats
from planner.tensors.inventory import Census, TensorGroup
from planner.tensors.modules import module_name
from planner.tensors.storage_formats import Stored
from planner.tensors.targets import indexed_names, output_rows
from planner.tensors.whole_modules import FIELD as WHOLE

# What a plain tensor's dtype is once loaded, once prepared, and from the first step on.
Dtypes = tuple[Dtype, Dtype, Dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """`count` equal tensors as the loader stores them and as they are once the model is prepared.

    `dtypes` are those of the values, or for a quantized weight of what it was made from.
    """

    group: TensorGroup
    count: int
    quantized: bool
    loaded: Stored
    prepared: Stored
    dtypes: Dtypes

    @property
    def upcast(self) -> bool:
        """Whether preparation turns it into float32."""
        return self.loaded is not self.prepared


def place(census: Census, recipe: Recipe) -> list[Placed]:
    """Decide for every tensor how it is stored.

    Raises:
        InvalidRequestError: HQQ cannot cut a weight into whole groups.
    """
    patterns = recipe.quantization.llm_int8_skip_modules if recipe.quantization else None
    skipped = None if patterns is None else SkipList(patterns)
    quantized_counts = [_quantized_count(group, recipe.quantization, skipped) for group in census]
    in_4bit = _quantized_in_4bit(census, quantized_counts, recipe)
    placed = []
    for group, quantized_count in zip(census, quantized_counts, strict=True):
        if quantized_count:
            stored = _quantized(group, census, recipe)
            placed.append(_placed(group, quantized_count, (stored, stored), (recipe.model_dtype,) * 3, quantized=True))
        if plain_count := group.count - quantized_count:
            beside = min(plain_count, in_4bit.get(module_name(group), 0)) if group.role == "bias" else 0
            for count, casts in ((beside, True), (plain_count - beside, False)):
                if count:
                    placed.append(_placed(group, count, *_plain(group, recipe, casts=casts)))
    return placed


def refuse_quantized_copies(placed: Iterable[Placed], copied: Iterable[str]) -> None:
    """Values that are packed into whole numbers have no gradient (torch: "only Tensors of floating point dtype can").

    `copied`: names of the tensors that `modules_to_save` trains as a whole.

    Raises:
        InvalidRequestError: one of them is quantized; says which.
    """
    names = set(copied)
    quantized = dict.fromkeys(module_name(item.group) for item in placed if item.quantized and item.group.name in names)
    if quantized:
        fix = (
            f"{', '.join(quantized)} is quantized, and a copy of it cannot be trained; leave it out, keep it from that "
            "with llm_int8_skip_modules, or use method lora"
        )
        raise InvalidRequestError("These modules cannot be trained as a whole.", [FieldProblem(WHOLE, fix)])


def in_load_order(placed: Iterable[Placed]) -> list[Placed]:
    """As the loader takes them: by name, digits as numbers (core_model_loading.py dot_natural_key).

    Buffers come last: most are in no file, and are made once everything else is there.
    """
    return sorted(placed, key=lambda p: (p.group.role == "buffer", _natural_key(p.group.name)))


def is_stacked_when_loaded(group: TensorGroup) -> bool:
    """Whether the loader stacks it of a tensor for each expert (core_model_loading.py MergeModulelist, Concatenate)."""
    return group.role == "expert" and len(group.shape) == 3 and not group.stacked_in_checkpoint


def _placed(
    group: TensorGroup, count: int, stored: tuple[Stored, Stored], dtypes: Dtypes, *, quantized: bool = False
) -> Placed:
    loaded, prepared = stored
    return Placed(group=group, count=count, quantized=quantized, loaded=loaded, prepared=prepared, dtypes=dtypes)


def _quantized_in_4bit(census: Census, counts: Iterable[int], recipe: Recipe) -> dict[str, int]:
    """How many of the modules of a name are `Linear4bit`: their biases follow the dtype they compute in."""
    if recipe.quantization is None or not recipe.quantization.load_in_4bit:
        return {}
    found: dict[str, int] = {}
    for group, count in zip(census, counts, strict=True):
        if count:
            found[module_name(group)] = found.get(module_name(group), 0) + count
    return found


def _quantized_count(group: TensorGroup, quantization: Quantization | None, skipped: SkipList | None) -> int:
    """How many tensors of the group are quantized.

    `llm_int8_skip_modules` *replaces* the automatic list: an output head that it does not name is quantized
    (transformers 5.23, quantizers/base.py get_modules_to_not_convert).
    """
    if quantization is None:
        return 0
    if skipped is None or quantization.quant_method == "hqq":
        return group.count if group.quantizable else 0
    if quantization.quant_method in {"awq", "gptq"}:  # get_modules_to_not_convert, add_default_skips=True
        named = sum(map(skipped.holds, indexed_names(group)))
        return group.count - named if group.quantizable else 0
    is_linear = group.quantizable or (group.role == "head" and group.name.endswith(".weight"))
    if not is_linear or group.keeps_float32:
        return 0
    return sum(not skipped.holds(name) for name in indexed_names(group))


def _quantized(group: TensorGroup, census: Census, recipe: Recipe) -> Stored:
    quantization = recipe.quantization or Quantization()
    load_itemsize_bytes = DTYPE_BYTES[recipe.model_dtype]
    if quantization.quant_method == "hqq":
        _refuse_uneven_groups(group, quantization.group_size)
        return storage_formats.group_wise_int4(
            group.params_each,
            group_size=quantization.group_size,
            compute_itemsize_bytes=DTYPE_BYTES[recipe.compute_dtype],
        )
    rows = output_rows(group, census)
    columns = group.params_each // rows
    if quantization.quant_method in {"awq", "gptq"}:
        return storage_formats.packed(
            rows,
            columns,
            bits=quantization.bits,
            group_size=quantization.group_size,
            orders_groups=quantization.quant_method == "gptq",
        )
    if quantization.quant_method == "fp8":
        return storage_formats.float8(rows, columns, block=quantization.weight_block_size)
    if quantization.load_in_8bit:
        return storage_formats.eight_bit(rows, columns, load_itemsize_bytes=load_itemsize_bytes)
    return storage_formats.four_bit(
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


def _plain(group: TensorGroup, recipe: Recipe, *, casts: bool) -> tuple[tuple[Stored, Stored], Dtypes]:
    """As loaded and as prepared, and its dtypes. kbit preparation upcasts all but Params4bit and int8; not HQQ or GPTQ.

    `casts`: the bias of a `Linear4bit`, whose forward leaves it in the dtype it computes in, whatever it was before
    (bitsandbytes/nn/modules.py, `self.bias.data = self.bias.data.to(x.dtype)`).
    """
    dtype = group.loaded_dtype(recipe.model_dtype)
    loaded = storage_formats.dense(group.params_each, DTYPE_BYTES[dtype])
    if is_stacked_when_loaded(group):  # sources or halves and the result are there together
        loaded = Stored(loaded.values_bytes, transient_bytes=loaded.values_bytes)
    stays = recipe.quantization is not None and recipe.quantization.quant_method in {"hqq", "gptq"}
    upcast = recipe.kbit_preparation and not stays and dtype != "float32" and group.role not in {"buffer", "tower"}
    prepared = storage_formats.dense(group.params_each, 4) if upcast else loaded
    prepared_dtype: Dtype = "float32" if upcast else dtype
    return (loaded, prepared), (dtype, prepared_dtype, recipe.compute_dtype if casts else prepared_dtype)


def _natural_key(name: str) -> list[tuple[int, int | str]]:
    """Digits compare as numbers, as core_model_loading.py dot_natural_key does."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"\.", name)]
