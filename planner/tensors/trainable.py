"""The tensors a run updates: what gradients and optimizer state are made for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from planner.errors import FieldProblem, NotPlannedError
from planner.request.dtypes import Dtype
from planner.request.lora import Lora
from planner.request.low_rank import Projection
from planner.request.recipe import DTYPE_BYTES
from planner.tensors.inventory import Census, Layers, TensorGroup
from planner.tensors.modules import module_name
from planner.tensors.peft_methods import MAGNITUDE, parts_of
from planner.tensors.refused_targets import refuse_trained_tokens
from planner.tensors.targets import adapted_weights
from planner.tensors.whole_modules import refuse_adapted_copies, whole_modules

TOKENS = "trainable_tokens_delta"
# PEFT makes adapters in float32.
_WIDE_BYTES = 4
# transformers 5.23, models/deepseek_v32: DeepseekV32Indexer.forward runs under torch.no_grad.
# Text alone never enters a vision tower (models/gemma4: Gemma4Model.forward without pixels).
_OUT_OF_REACH = (".indexer.", ".vision_tower.", ".embed_vision.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """`count` equal trained tensors. `shape` is the optimizer's view, `embedding` marks `nn.Embedding` weights.

    `copied`: a copy of a whole module beside its original. `made_bytes`: the itemsize that PEFT leaves it with, before
    a stack casts it; `first_bytes`: the one it has until PEFT casts it, when all are there. `layers`: those that have
    one, where that is known. `own`: the base model's, which is no further tensor.
    `projection`: how its optimizer projects its gradient.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    itemsize_bytes: int
    embedding: bool = False
    copied: bool = False
    made_bytes: int = _WIDE_BYTES
    layers: Layers = ()
    own: bool = False
    first_bytes: int = _WIDE_BYTES
    projection: Projection | None = None

    @property
    def elements(self) -> int:
        """Elements of one tensor."""
        elements = 1
        for size in self.shape:
            elements *= size
        return elements


def reached(tensors: Sequence[Trainable]) -> tuple[Trainable, ...]:
    """Those that a backward pass gets to: the others never have a gradient, and so no optimizer state."""
    return tuple(tensor for tensor in tensors if not any(part in tensor.name for part in _OUT_OF_REACH))


def module_by_module(tensors: Sequence[Trainable]) -> Iterator[Trainable]:
    """One after the other, as the model's modules have them: what is before the layers, layer after layer, the rest.

    If only some layers have a tensor and it is not known which, those are taken to be spread evenly.
    """
    layered = [tensor for tensor in tensors if "*" in tensor.name]
    known = max((tensor.layers[-1] + 1 for tensor in layered if tensor.layers), default=0)
    layers = max((tensor.count for tensor in layered if tensor.name.count("*") == 1), default=1)
    layers = max(known, layers)
    first = tensors.index(layered[0]) if layered else len(tensors)
    for tensor in tensors[:first]:
        yield from [tensor] * tensor.count
    for layer in range(layers if layered else 0):
        for tensor in layered:
            if tensor.layers:
                yield from [tensor] * (layer in tensor.layers)
                continue
            before, after = (tensor.count * number // layers for number in (layer, layer + 1))
            yield from [tensor] * (after - before)
    for tensor in tensors[first:]:
        if "*" not in tensor.name:
            yield from [tensor] * tensor.count


@dataclass(frozen=True, slots=True)
class AdapterDtypes:
    """Of matrices, of DoRA's magnitudes, of what whole modules are copied from, and what a trainer casts the copies to.

    TRL 1.16 leaves magnitudes in float32 when it casts the rest to bfloat16, copies of whole modules included.
    `layers`: that of the adapted layers, which adapters are given first (peft 0.21.2 tuners/tuners_utils.py,
    _move_adapter_to_device_of_base_layer); of 16 bit all are cast to float32 at the end (cast_adapter_dtype).
    `trains_ranks`: see `parts_of` (planner/tensors/peft_methods.py).
    """

    matrices: Dtype
    magnitudes: Dtype
    originals: Dtype = "bfloat16"
    copies: Dtype | None = None
    biases: Dtype = "bfloat16"
    layers: Dtype = "float32"
    trains_ranks: bool = False


@lru_cache(maxsize=512)
def adapter_tensors(
    census: Census, model_type: str, lora: Lora, dtypes: AdapterDtypes
) -> tuple[Trainable, ...]:
    """What PEFT's method has for every adapted weight: LoRA A (r x K) and B (N x r), and with DoRA one magnitude per
    output row (planner/tensors/peft_methods.py); copies of whole modules where they are in the model.

    Source: peft 0.21.2, tuners/lora/layer.py update_layer; tuners/lora/dora.py update_layer.

    Raises:
        InvalidRequestError: the targets or the whole modules match nothing, or something PEFT refuses.
    """
    matrices_bytes, magnitudes_bytes = DTYPE_BYTES[dtypes.matrices], DTYPE_BYTES[dtypes.magnitudes]
    copied, adapted = whole_modules(census, lora), adapted_weights(census, model_type, lora)
    refuse_adapted_copies(copied, (weight.name for weight in adapted))
    copies = [_copy(group, dtypes) for group in copied]
    tensors = [copy for copy in copies if copy.embedding]
    tensors += trained_tokens(census, lora, dtypes)
    for weight in adapted:
        tensors += [
            Trainable(
                name=f"{weight.name}.{part.name}",
                shape=part.shape,
                count=weight.count,
                itemsize_bytes=magnitudes_bytes if part.name == MAGNITUDE else matrices_bytes,
                layers=weight.layers,
                first_bytes=DTYPE_BYTES[dtypes.layers],
            )
            for part in parts_of(weight, lora, model_type, trains_ranks=dtypes.trains_ranks)
        ]
    tensors += trained_biases(census, lora, {weight.name: weight.count for weight in adapted}, dtypes)
    return (*tensors, *(copy for copy in copies if not copy.embedding))


def trained_biases(
    census: Census, lora: Lora, adapted: Mapping[str, int], dtypes: AdapterDtypes
) -> list[Trainable]:
    """The model's own biases that are trained: of all linear layers, or of those with an adapter, so many of each name.

    Source: peft 0.21.2, tuners/tuners_utils.py _mark_only_adapters_as_trainable.
    """
    if lora.bias == "none":
        return []
    kept = dtypes.biases if dtypes.matrices == "float32" else dtypes.matrices
    return [
        Trainable(
            name=group.name,
            shape=group.shape,
            count=group.count if lora.bias == "all" else adapted[module_name(group)],
            itemsize_bytes=DTYPE_BYTES[kept],
            made_bytes=DTYPE_BYTES[kept],
            own=True,
        )
        for group in census
        if group.role == "bias" and (lora.bias == "all" or module_name(group) in adapted)
    ]


def trained_tokens(census: Census, lora: Lora, dtypes: AdapterDtypes) -> list[Trainable]:
    """The rows of the embedding that `trainable_token_indices` trains beside the frozen ones.

    Source: peft 0.21.2, tuners/trainable_tokens/layer.py update_layer.
    """
    if not lora.trainable_token_indices:
        return []
    embedding = next(group for group in census if group.role == "embedding")
    refuse_trained_tokens(embedding, lora)
    return [
        Trainable(
            name=f"{module_name(embedding)}.{TOKENS}",
            shape=(len(lora.trainable_token_indices), embedding.shape[1]),
            count=1,
            itemsize_bytes=DTYPE_BYTES[dtypes.matrices],
            made_bytes=DTYPE_BYTES[embedding.loaded_dtype(dtypes.originals)],
            first_bytes=DTYPE_BYTES[embedding.loaded_dtype(dtypes.originals)],
        )
    ]


def refuse_biases_beside_other_storage(tensors: Iterable[Trainable]) -> None:
    """The walk follows the gradients of biases of 4-bit layers, and of those that are not quantized.

    Raises:
        NotPlannedError: one of the model's own biases is trained.
    """
    if any(tensor.own for tensor in tensors):
        fix = "is planned in 4 bits and without quantization; write none, load_in_4bit, or method lora"
        raise NotPlannedError("These biases cannot be planned.", [FieldProblem("lora.bias", fix)])


def _copy(group: TensorGroup, dtypes: AdapterDtypes) -> Trainable:
    """As its original is kept: PEFT upcasts adapters alone (tuners_utils.py cast_adapter_dtype)."""
    original = group.loaded_dtype(dtypes.originals)
    kept = dtypes.copies or (original if dtypes.matrices == "float32" else dtypes.matrices)
    return Trainable(
        name=group.name,
        shape=group.shape,
        count=group.count,
        itemsize_bytes=DTYPE_BYTES[kept],
        embedding=group.role == "embedding",
        copied=True,
        made_bytes=DTYPE_BYTES[original],
        first_bytes=DTYPE_BYTES[original],
    )


@lru_cache(maxsize=256)
def model_tensors(census: Census, dtype: Dtype) -> tuple[Trainable, ...]:
    """Every parameter of the model, for full fine-tuning: each in its own dtype."""
    return tuple(
        Trainable(
            name=group.name,
            shape=group.shape,
            count=group.count,
            itemsize_bytes=DTYPE_BYTES[group.loaded_dtype(dtype)],
            embedding=group.role == "embedding",
        )
        for group in census
        if group.role != "buffer"
    )
