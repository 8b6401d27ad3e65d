"""The lines of one card of several that do not depend on batch or length: shards, buckets, what lies on the host."""

from collections.abc import Sequence
from dataclasses import replace

from planner.ledger import PHASES, Line
from planner.memory.gradients import gradient_lines
from planner.memory.optimizer import optimizer_lines
from planner.memory.weights import weight_lines
from planner.parallel.ddp import ddp_lines
from planner.parallel.units import Unit, Units, is_cut, kept_itemsize, units_of
from planner.request.parallel import Ddp, Fsdp
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable
from planner.units import allocated, ceil_div

HOST = "in host memory"


def ddp_static_lines(placed: Sequence[Placed], tensors: Sequence[Trainable], recipe: Recipe) -> list[Line]:
    """What DDP adds to one card's own lines."""
    options = recipe.strategy if isinstance(recipe.strategy, Ddp) else Ddp()
    adapters_bytes = 0 if recipe.lora is None else sum(t.elements * t.itemsize_bytes * t.count for t in tensors)
    model_bytes = sum(item.prepared.total_bytes * item.count for item in placed)
    return ddp_lines(tensors, options, model_bytes + adapters_bytes)


def fsdp_static_lines(
    placed: Sequence[Placed], tensors: Sequence[Trainable], recipe: Recipe, layers: int
) -> list[Line]:
    """Shards of everything that FSDP cuts, and whole what it does not. `layers` is 0 if it is not known."""
    whole = [item for item in placed if not is_cut(item, recipe)]
    cut = [item for item in placed if is_cut(item, recipe)]
    adapters = tensors if recipe.lora else ()
    units = units_of(placed, adapters, recipe, max(1, layers))
    shards, on_host = recipe.layout.parameter_shards, recipe.layout.parameters_on_host
    sharded = [_shard(tensor, recipe) for tensor in tensors]
    cut_bytes = _cut_bytes(cut, recipe, shards)
    lines = [
        *_lines_of_what_stays_whole(placed, whole, recipe),
        *_statistics([item for item in cut if item.quantized]),
        _shards_line("weights: this card's shards", cut_bytes, on_host=on_host),
        _on_the_way(placed, adapters, recipe, units if layers else replace(units, layer=Unit()), cut_bytes),
    ]
    if recipe.lora:
        adapter_bytes = sum(allocated(t.elements * t.itemsize_bytes) * t.count for t in sharded)
        adapter_line = _shards_line("adapters: this card's shards", adapter_bytes, on_host=on_host)
        lines.append(replace(adapter_line, cause="adapters"))
    return [*lines, *update_lines(sharded, recipe, on_host=recipe.layout.optimizer_on_host)]


def _lines_of_what_stays_whole(placed: Sequence[Placed], whole: Sequence[Placed], recipe: Recipe) -> list[Line]:
    """Tensors that are not cut; and, until it is cut, all of a model that `_lies_whole`."""
    kept = weight_lines(whole, recipe, adapters_bytes=0)
    if not _lies_whole(recipe):
        return kept
    loaded = [line for line in weight_lines(placed, recipe, adapters_bytes=0) if PHASES[0] in line.alive_in]
    later = [replace(line, alive_in=tuple(phase for phase in line.alive_in if phase in PHASES[2:])) for line in kept]
    return [
        *(replace(line, name=f"{line.name}, before it is cut", alive_in=PHASES[:1]) for line in loaded),
        *(line for line in later if line.alive_in),
    ]


def _lies_whole(recipe: Recipe) -> bool:
    """Whether all of the model is on each card before it is cut: from_pretrained quantizes on the card
    (accelerate/utils/fsdp_utils.py fsdp2_prepare_model, "will still cause the VRAM spike").

    A harness of one's own may load otherwise: Answer.AI's quantizes tensor by tensor and keeps the first rank's on the
    host (fsdp_qlora train.py load_and_quantize_parallel).
    """
    return recipe.quantization is not None and recipe.stack_name != "custom"


def _on_the_way(
    placed: Sequence[Placed], adapters: Sequence[Trainable], recipe: Recipe, units: Units, shards_bytes: int
) -> Line:
    """What lies on the card beside the shards while they are made.

    FSDP2 cuts one parameter after another. FSDP1 first copies all of a unit into one flat tensor, its root last. Of a
    quantized model all is there: FSDP2's caller holds it until the end (`original_sd`), FSDP1 lets each unit go.
    """
    version_1 = isinstance(recipe.strategy, Fsdp) and recipe.strategy.version == 1
    layer_bytes, root_bytes = units.layer.gathered_bytes(1), units.tail.gathered_bytes(1)
    unit_bytes = max(layer_bytes, root_bytes)
    most_bytes = 2 * unit_bytes if version_1 else max(units.embedding.gathered_bytes(1), unit_bytes)
    formula = "2 e × the parameters of the largest unit" if version_1 else "e × the parameters of the largest unit"
    if _lies_whole(recipe):
        whole_bytes = sum(item.loaded.total_bytes * item.count for item in placed)
        whole_bytes += sum(allocated(item.elements * item.itemsize_bytes) * item.count for item in adapters)
        # Statistics of quantized weights are not cut and have lines of their own.
        whole_bytes -= sum(line.bytes for line in _statistics([item for item in placed if item.quantized]))
        most_bytes, formula = whole_bytes, "all of the model"
        if version_1:
            most_bytes = max(whole_bytes + layer_bytes - shards_bytes, 2 * root_bytes)
            formula = "all of the model, or 2 e × its root"
    elif recipe.layout.parameters_on_host:
        most_bytes = 0
    sources = ("_flat_param.py flatten_tensors_into_flat_param", "_fully_shard/_fsdp_init.py _move_states_to_device")
    return Line(
        name="what is on its way to its shards", bytes=most_bytes, cause="weights", alive_in=PHASES[1:2],
        formula=formula, working=f"{most_bytes:,}", evidence="modelled",
        source=f"torch/distributed/fsdp/{sources[0] if version_1 else sources[1]}",
    )  # fmt: skip


def update_lines(tensors: Sequence[Trainable], recipe: Recipe, *, on_host: bool) -> list[Line]:
    """Gradients and optimizer state of this card's shards."""
    made = [
        *gradient_lines(tensors),
        *optimizer_lines(
            tensors,
            recipe.training.optim,
            clips=recipe.training.max_grad_norm > 0,
            embeddings_in_32bit=recipe.by_trainer,
        ),
    ]
    if not on_host:
        return [replace(line, evidence="modelled") for line in made]
    kept = [line for line in made if line.name != "gradient norms" and line.alive_in != ("optimizer",)]
    return [replace(line, name=f"{line.name}, {HOST}", alive_in=(), evidence="modelled") for line in kept]


def _shard(tensor: Trainable, recipe: Recipe) -> Trainable:
    shards = recipe.layout.optimizer_shards
    itemsize_bytes = kept_itemsize(tensor.itemsize_bytes, recipe, trained=True)
    shape = (ceil_div(tensor.shape[0], shards), *tensor.shape[1:])
    return replace(tensor, shape=shape, itemsize_bytes=itemsize_bytes)


def _cut_bytes(cut: Sequence[Placed], recipe: Recipe, shards: int) -> int:
    total_bytes = 0
    for item in cut:
        if item.quantized:
            total_bytes += allocated(ceil_div(item.loaded.values_bytes, shards)) * item.count
            continue
        each = kept_itemsize(DTYPE_BYTES[item.dtypes[2]], recipe, trained=recipe.lora is None)
        rows, columns = item.group.shape[0], item.group.params_each // item.group.shape[0]
        total_bytes += allocated(ceil_div(rows, shards) * columns * each) * item.count
    return total_bytes


def _statistics(quantized: Sequence[Placed]) -> list[Line]:
    """Maxima and tables of 4-bit weights hang on the module, which every card has whole (Params4bit.quant_state)."""
    total_bytes = sum((item.loaded.total_bytes - item.loaded.values_bytes) * item.count for item in quantized)
    return [
        Line(
            name="quantization statistics and tables, whole on every card", bytes=total_bytes, cause="weights",
            alive_in=PHASES, formula="as on one card", working=f"{total_bytes:,}", evidence="modelled",
            source="bitsandbytes/nn/modules.py Params4bit.quant_state",
        )
    ]  # fmt: skip


def _shards_line(name: str, size_bytes: int, *, on_host: bool) -> Line:
    return Line(
        name=f"{name}, {HOST}" if on_host else name, bytes=size_bytes, cause="weights",
        alive_in=() if on_host else PHASES[1:], formula="Σ e × ⌈rows / cards⌉ × columns, each rounded up to 512 bytes",
        working=f"{size_bytes:,}", evidence="modelled",
        source="torch/distributed/fsdp/_fully_shard/_fsdp_param.py _init_sharded_param",
    )  # fmt: skip
