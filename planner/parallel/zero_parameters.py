"""A model's parameters in the order in which DeepSpeed meets them: as they are defined, and as modules use them."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.lazy_attribute import lazy_attribute
from planner.request.parallel import DeepSpeed
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable
from planner.units import ceil_div

_HALF_BYTES = DTYPE_BYTES["bfloat16"]
# lora_A, lora_B and the like hang below the module that they adapt.
_WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `module` is what it hangs on, `itemsize_bytes` that of its gathered elements."""

    module: str
    elements: int
    itemsize_bytes: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class ModelParameters:
    """What comes before the layers, what each of `layers` layers has, and what comes after them.

    `tied`: the embedding, which comes first, is used again as the output head.
    """

    first: tuple[Parameter, ...]
    layer: tuple[Parameter, ...]
    last: tuple[Parameter, ...]
    layers: int
    tied: bool

    @lazy_attribute
    def trained(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Elements of each trained parameter: of those that come first, of a layer, of those that come last."""
        of_first, of_layer, of_last = (
            tuple(parameter.elements for parameter in part if parameter.trained)
            for part in (self.first, self.layer, self.last)
        )
        return of_first, of_layer, of_last

    def trained_counts(self) -> list[int]:
        """How many trained parameters come after the layers, in each layer, before them: as their gradients come.

        The gradient of an embedding that is the head, too, is whole when the embedding's own pass is over.
        """
        first, layer, last = map(len, self.trained)
        return [last, *[layer] * self.layers, first]

    def trained_in_order(self) -> list[int]:
        """Elements of each trained parameter of the model, as it is defined."""
        first, layer, last = self.trained
        return [*first, *(layer * self.layers), *last]


def parameters_of(
    placed: Sequence[Placed], adapters: Sequence[Trainable], recipe: Recipe, layers: int
) -> ModelParameters:
    """All parameters of a model; `adapters` are what LoRA trains, without any every parameter is trained.

    Stage 3 leaves adapters in the dtype that PEFT gives them, as zero.Init made the model and the engine casts nothing
    (deepspeed/runtime/engine.py _cast_module_mixed_precision, is_zero_init_model).
    """
    parts: dict[str, list[Parameter]] = {"first": [], "layer": [], "last": []}
    # Decoder layers define their norms last (transformers/models/llama/modeling_llama.py LlamaDecoderLayer).
    for item in sorted(placed, key=lambda each: "*" in each.group.name and each.group.role == "norm"):
        if item.group.role != "buffer":
            place = "layer" if "*" in item.group.name else "first" if item.group.role == "embedding" else "last"
            count = ceil_div(item.count, layers) if place == "layer" else 1
            parts[place] += [_parameter_of(item, recipe)] * count
    for tensor in adapters:
        place = "layer" if "*" in tensor.name else "first" if tensor.embedding else "last"
        count = ceil_div(tensor.count, layers) if place == "layer" else tensor.count
        in_stage_3 = isinstance(recipe.strategy, DeepSpeed) and recipe.strategy.stage == 3
        each_bytes = tensor.itemsize_bytes if in_stage_3 else _HALF_BYTES
        made = Parameter(tensor.name, tensor.elements, each_bytes, trained=True)
        parts[place][_after(parts[place], tensor.name) : 0] = [made] * count
    return ModelParameters(
        first=tuple(parts["first"]), layer=tuple(parts["layer"]), last=tuple(parts["last"]), layers=layers,
        tied=not any(item.group.role == "head" for item in placed),
    )  # fmt: skip


def _parameter_of(item: Placed, recipe: Recipe) -> Parameter:
    itemsize_bytes = DTYPE_BYTES[item.dtypes[2]] if item.quantized else _HALF_BYTES
    return Parameter(item.group.name.removesuffix(_WEIGHT), item.group.params_each, itemsize_bytes, recipe.lora is None)


def _after(parameters: Sequence[Parameter], name: str) -> int:
    """Where an adapter's tensor goes: behind the module that it adapts, and what of it is there already."""
    base = name.rpartition(".")[0]
    places = [
        index for index, made in enumerate(parameters) if made.module == base or made.module.startswith(f"{base}.")
    ]
    return places[-1] + 1 if places else len(parameters)
