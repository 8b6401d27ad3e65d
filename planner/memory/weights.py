"""The base model: what is quantized and what is not, before and after preparation, and the loader's transients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Literal

from planner.ledger import PHASES, Line
from planner.request.dtypes import Dtype
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.request.schema import Quantization
from planner.tensors import storage_formats as storage
from planner.tensors.inventory import TensorGroup
from planner.tensors.tensor_storage import Placed, in_load_order
from planner.units import allocated

AFTER_LOAD = PHASES[1:]
BITSANDBYTES = "bitsandbytes/functional.py quantize_4bit, nn/modules.py"
KEPT_BY = "transformers/quantizers/base.py get_keys_to_not_convert"
UPCAST_BY = "peft/utils/other.py prepare_model_for_kbit_training"
CAST_BY = "bitsandbytes/nn/modules.py Linear4bit.forward: the bias takes the dtype computed in"
REGISTERED_BY = "register_buffer in the modeling code; modeling_rope_utils.py for rotary frequencies"

_WHEN = {
    PHASES[:1]: ", as loaded", PHASES[1:]: ", once prepared", PHASES[:2]: ", until the first step",
    PHASES[1:2]: ", prepared, until the first step", PHASES[2:]: ", from the first step on",
}  # fmt: skip

_line = partial(Line, cause="weights")

Part = Literal[
    "embeddings and output head", "experts", "linear weights", "norms, biases and the rest", "buffers",
    "vision tower, projector",
]  # fmt: skip
_PART_OF_ROLE: dict[str, Part] = {
    "embedding": "embeddings and output head",
    "head": "embeddings and output head",
    "expert": "experts",
    "linear": "linear weights",
    "buffer": "buffers",
    "tower": "vision tower, projector",
}


def weight_lines(placed: Sequence[Placed], recipe: Recipe, *, adapters_bytes: int) -> list[Line]:
    """All lines of the base model. `adapters_bytes` are made after the upcast, so the two never coincide."""
    lines = [*_quantized_lines([p for p in placed if p.quantized], recipe.quantization)]
    plain = [p for p in placed if not p.quantized]
    for part in (*dict.fromkeys(_PART_OF_ROLE.values()), "norms, biases and the rest"):
        lines += _plain_lines(part, [p for p in plain if _part(p.group) == part])
    return [*lines, _load_transient(placed), _upcast_transient(placed, adapters_bytes)]


def reference_lines(placed: Sequence[Placed], recipe: Recipe) -> list[Line]:
    """A second model that only scores: its weights, as loaded, from the preparation on.

    `placed` are its tensors, none of them upcast. Source: trl 1.16 trainer/dpo_trainer.py, "Reference model".
    """
    lines = [line for line in weight_lines(placed, recipe, adapters_bytes=0) if PHASES[-1] in line.alive_in]
    return [
        _line(
            name="reference model",
            bytes=sum(line.bytes for line in lines) - _shared_bytes(placed, recipe.quantization),
            alive_in=AFTER_LOAD,
            formula="the weights once more, as they were loaded",
            working=" + ".join(f"{line.bytes:,} {line.name}" for line in lines if line.bytes),
            source="trl/trainer/dpo_trainer.py DPOTrainer.__init__, create_model_from_path",
        )
    ]


def _part(group: TensorGroup) -> Part:
    return _PART_OF_ROLE.get(group.role, "norms, biases and the rest")


def _quantized_lines(placed: Sequence[Placed], quantization: Quantization | None) -> list[Line]:
    if quantization is None or not placed:
        return []
    elements = sum(p.group.params_each * p.count for p in placed)
    kind, values, statistics, tables, source = _descriptions(quantization)
    tables_bytes = sum(p.loaded.tables_bytes * p.count for p in placed) + _shared_bytes(placed, quantization)
    sizes = (
        (f"quantized weights ({kind})", sum(p.loaded.values_bytes * p.count for p in placed), values),
        ("quantization statistics", sum(p.loaded.statistics_bytes * p.count for p in placed), statistics),
        ("code tables and offsets", tables_bytes, tables),
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


def _shared_bytes(placed: Sequence[Placed], quantization: Quantization | None) -> int:
    """The code of 8-bit constants, which bitsandbytes keeps once for all models (functional.py, name2qmap)."""
    double = quantization and quantization.load_in_4bit and quantization.bnb_4bit_use_double_quant
    return allocated(storage.DYNAMIC_MAP_BYTES) if double and any(p.quantized for p in placed) else 0


def _descriptions(quantization: Quantization) -> tuple[str, str, str, str, str]:
    if quantization.quant_method == "hqq":
        size = quantization.group_size
        return f"int4, groups of {size}", "⌈n/2⌉", f"2 × e n/{size}", "0", "hqq/core/quantize.py Quantizer.quantize"
    if quantization.quant_method == "fp8":
        block = quantization.weight_block_size
        scales = f"4 ⌈N/{block[0]}⌉ ⌈K/{block[1]}⌉" if block else "4"
        return "fp8", "n", scales, "0", "transformers/integrations/finegrained_fp8.py FP8Linear"
    if quantization.quant_method in {"awq", "gptq"}:
        bits, group = quantization.bits, f"K/{quantization.group_size}" if quantization.group_size > 0 else "1"
        tables = "4 K (group of each column)" if quantization.quant_method == "gptq" else "0"
        scales = f"(2 + {bits}/8) N ⌈{group}⌉ (scales, zero points)"
        kind = f"{quantization.quant_method}, {bits} bit"
        return kind, f"⌈{bits} n/8⌉", scales, tables, "gptqmodel/nn_modules/qlinear"
    if quantization.load_in_8bit:
        return "int8", "n", "4 N (row scales)", "0", "bitsandbytes/nn/modules.py Int8Params._quantize"
    if quantization.bnb_4bit_use_double_quant:
        tables = "(64 code + 1,024 nested code + 4 offset) per weight + 1,024 once"
        return quantization.bnb_4bit_quant_type, "⌈n/2⌉", "⌈n/64⌉ + 4 ⌈⌈n/64⌉/256⌉", tables, BITSANDBYTES
    return quantization.bnb_4bit_quant_type, "⌈n/2⌉", "4 ⌈n/64⌉", "64 code per weight", BITSANDBYTES


def _plain_lines(part: Part, placed: Sequence[Placed]) -> list[Line]:
    """Lines of what is not quantized: one for each dtype and the phases in which tensors are in it."""
    spans: dict[tuple[str, tuple[str, ...], str], list[Placed]] = {}
    for p in placed:
        for dtype, phases, source in _spans(p):
            spans.setdefault((dtype, phases, source), []).append(p)
    return [
        _line(
            name=f"{part} ({dtype}{_WHEN.get(phases, '')})",
            bytes=sum(allocated(p.group.params_each * DTYPE_BYTES[dtype]) * p.count for p in chosen),
            alive_in=phases,
            formula=f"{DTYPE_BYTES[dtype]} n, each tensor rounded up to 512 bytes",
            working=f"n = {sum(p.group.params_each * p.count for p in chosen):,}",
            source=source,
        )
        for (dtype, phases, source), chosen in spans.items()
    ]


def _spans(placed: Placed) -> Iterator[tuple[Dtype, tuple[str, ...], str]]:
    """In which dtype the tensor is in which phases, and what made it so."""
    loaded, prepared, used = placed.dtypes
    kept_by = REGISTERED_BY if placed.group.role == "buffer" else KEPT_BY
    if loaded == prepared == used:
        yield loaded, PHASES, kept_by
        return
    if loaded == prepared:
        yield loaded, PHASES[:2], kept_by
    else:
        yield loaded, PHASES[:1], kept_by
        yield prepared, AFTER_LOAD if used == prepared else PHASES[1:2], UPCAST_BY
    if used != prepared:
        yield used, PHASES[2:], CAST_BY


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
