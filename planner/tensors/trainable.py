"""The tensors a run updates: what gradients and optimizer state are made for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from planner.request.dtypes import Dtype
from planner.request.recipe import DTYPE_BYTES
from planner.request.schema import Lora
from planner.tensors.inventory import Census
from planner.tensors.targets import adapted_weights

MAGNITUDE = "lora_magnitude_vector"
# The head of a sequence classification model, which PEFT trains as a copy beside the adapters.
SCORE = "score.weight"
# transformers 5.23, models/deepseek_v32: DeepseekV32Indexer.forward runs under torch.no_grad.
# Text alone never enters a vision tower (models/gemma4: Gemma4Model.forward without pixels).
_OUT_OF_REACH = (".indexer.", ".vision_tower.", ".embed_vision.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """`count` equal trained tensors. `shape` is the optimizer's view, `embedding` marks `nn.Embedding` weights."""

    name: str
    shape: tuple[int, ...]
    count: int
    itemsize_bytes: int
    embedding: bool = False

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

    Where only some layers have a tensor, those are taken to be spread evenly.
    """
    layered = [tensor for tensor in tensors if "*" in tensor.name]
    layers = max((tensor.count for tensor in layered if tensor.name.count("*") == 1), default=1)
    first = tensors.index(layered[0]) if layered else len(tensors)
    for tensor in tensors[:first]:
        yield from [tensor] * tensor.count
    for layer in range(layers if layered else 0):
        for tensor in layered:
            before, after = (tensor.count * number // layers for number in (layer, layer + 1))
            yield from [tensor] * (after - before)
    for tensor in tensors[first:]:
        if "*" not in tensor.name:
            yield from [tensor] * tensor.count


@lru_cache(maxsize=512)
def adapter_tensors(
    census: Census, model_type: str, lora: Lora, dtype: Dtype, magnitude_dtype: Dtype | None = None
) -> tuple[Trainable, ...]:
    """LoRA's A (r x K) and B (N x r) for every adapted weight, and with DoRA one magnitude per output row.

    `magnitude_dtype`, where it differs: TRL 1.16 leaves magnitudes in float32 when it casts the rest to bfloat16.
    A reward model's head is trained as a copy. Source: peft 0.21.2, tuners/lora/layer.py update_layer;
    tuners/lora/dora.py update_layer; peft_model.py PeftModelForSequenceClassification, `modules_to_save`.

    Raises:
        InvalidRequestError: the targets match nothing, or something PEFT refuses.
    """
    matrices_bytes, magnitudes_bytes = DTYPE_BYTES[dtype], DTYPE_BYTES[magnitude_dtype or dtype]
    tensors = []
    for weight in adapted_weights(census, model_type, lora):
        parts: list[tuple[str, tuple[int, ...], int]] = [
            ("lora_A", (weight.rank, weight.columns), matrices_bytes),
            ("lora_B", (weight.rows, weight.rank), matrices_bytes),
        ]
        if lora.use_dora:
            parts.append((MAGNITUDE, (weight.rows,), magnitudes_bytes))
        tensors += [
            Trainable(name=f"{weight.name}.{part}", shape=shape, count=weight.count, itemsize_bytes=itemsize_bytes)
            for part, shape, itemsize_bytes in parts
        ]
    heads = (group for group in census if group.name == SCORE)
    tensors += [Trainable(name=head.name, shape=head.shape, count=1, itemsize_bytes=matrices_bytes) for head in heads]
    return tuple(tensors)


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
