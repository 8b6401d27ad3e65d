"""The units that parameters are gathered in: the embedding, each decoder layer, and final norm with the output head.

accelerate cuts a model so for FSDP2 (accelerate/utils/fsdp_utils.py fsdp2_prepare_model); where embedding and head are
one tensor, it is of the last unit, which is gathered first and stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from planner.request.parallel import Fsdp
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.tensors.tensor_storage import Placed
from planner.tensors.trainable import Trainable
from planner.units import allocated, ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`count` equal parameters of one unit.

    `shape` is the parameter's own, `kept_bytes` the itemsize of its shards, `gathered_bytes` that of the whole while it
    is in use.
    """

    shape: tuple[int, ...]
    count: int
    kept_bytes: int
    gathered_bytes: int
    trained: bool

    @property
    def elements(self) -> int:
        """Elements of one parameter."""
        return prod(self.shape)

    def shard_elements(self, shards: int) -> int:
        """Elements of the largest shard; torch pads the others to it (_fsdp_param.py _init_sharded_param, dim 0)."""
        return ceil_div(self.shape[0], shards) * prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class Unit:
    """Parameters that are gathered, used and reduced together."""

    parts: tuple[Part, ...] = ()

    def gathered_bytes(self, shards: int) -> int:
        """All parameters whole, each a tensor of its own (_fsdp_param.py init_all_gather_outputs)."""
        return sum(
            allocated(shards * part.shard_elements(shards) * part.gathered_bytes) * part.count for part in self.parts
        )

    def gather_buffer_bytes(self, shards: int) -> int:
        """The one tensor that a gather writes into (_fsdp_collectives.py foreach_all_gather)."""
        return allocated(
            shards * sum(part.shard_elements(shards) * part.gathered_bytes * part.count for part in self.parts)
        )

    def reduce_buffer_bytes(self, shards: int) -> int:
        """The one tensor that gradients are copied into to be reduced (_fsdp_collectives.py foreach_reduce)."""
        return allocated(
            shards * sum(part.shard_elements(shards) * part.gathered_bytes * part.count for part in self._trained)
        )

    def reduced_bytes(self, shards: int) -> int:
        """This card's part of the reduced gradients, one tensor in the shards' dtype."""
        return allocated(sum(part.shard_elements(shards) * part.kept_bytes * part.count for part in self._trained))

    def frozen_shard_bytes(self, shards: int) -> int:
        """This card's part of what is not trained, one tensor."""
        frozen = (part for part in self.parts if not part.trained)
        return allocated(sum(part.shard_elements(shards) * part.kept_bytes * part.count for part in frozen))

    def sized(self, shards: int) -> "Sized":
        """All of its bytes at once, for a run in so many shards."""
        return Sized(
            gathered_bytes=self.gathered_bytes(shards),
            gather_buffer_bytes=self.gather_buffer_bytes(shards),
            reduce_buffer_bytes=self.reduce_buffer_bytes(shards),
            reduced_bytes=self.reduced_bytes(shards),
            frozen_shard_bytes=self.frozen_shard_bytes(shards),
        )

    @property
    def _trained(self) -> Iterable[Part]:
        return (part for part in self.parts if part.trained)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A unit's bytes: whole, in the buffer that a gather fills, in the one that is reduced, and this card's parts."""

    gathered_bytes: int = 0
    gather_buffer_bytes: int = 0
    reduce_buffer_bytes: int = 0
    reduced_bytes: int = 0
    frozen_shard_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedUnits:
    """`Units` in bytes."""

    embedding: Sized
    layer: Sized
    tail: Sized
    layers: int
    tied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """A model cut into units; all layers count as the largest. `tied`: the embedding is the output head."""

    embedding: Unit
    layer: Unit
    tail: Unit
    layers: int
    tied: bool

    def sized(self, shards: int) -> SizedUnits:
        """Their bytes, for a run in so many shards."""
        return SizedUnits(
            embedding=self.embedding.sized(shards), layer=self.layer.sized(shards), tail=self.tail.sized(shards),
            layers=self.layers, tied=self.tied,
        )  # fmt: skip


def is_cut(placed: Placed, recipe: Recipe) -> bool:
    """Whether FSDP cuts this tensor; buffers and 4-bit values kept as bytes stay whole on every card.

    Source: accelerate/utils/fsdp_utils.py fsdp2_prepare_model, incompatible_params4bit.
    """
    if placed.group.role == "buffer":
        return False
    storage = recipe.quantization.bnb_4bit_quant_storage if recipe.quantization else "uint8"
    return not placed.quantized or storage != "uint8"


def units_of(
    placed: Sequence[Placed], adapters: Sequence[Trainable], recipe: Recipe, layers: int, *, by_layer: bool = True
) -> Units:
    """Cut a model. `adapters` are what LoRA trains; without any, every parameter is trained.

    Without units of its own (`by_layer`), all of it is gathered first and stays, as a tied embedding does; so is what
    FSDP1 has in its root, which is all that is in no layer
    (torch/distributed/fsdp/_runtime_utils.py _post_forward_reshard).
    """
    parts: dict[str, list[Part]] = {"embedding": [], "layer": [], "tail": []}
    one_root = isinstance(recipe.strategy, Fsdp) and recipe.strategy.version == 1
    tied = one_root or not any(item.group.role == "head" for item in placed)
    for item in placed:
        if is_cut(item, recipe):
            place = _place(item.group.name, item.group.role, tied=tied) if by_layer else "tail"
            parts[place].append(_part_of(item, recipe, layers if place == "layer" else 1))
    for tensor in adapters:
        place = _place(tensor.name, "embedding" if tensor.embedding else "", tied=tied) if by_layer else "tail"
        parts[place].append(_adapter_part(tensor, recipe, layers if place == "layer" else 1))
    made = {place: Unit(tuple(found)) for place, found in parts.items()}
    stays = tied or not by_layer
    return Units(embedding=made["embedding"], layer=made["layer"], tail=made["tail"], layers=layers, tied=stays)


def kept_itemsize(itemsize_bytes: int, recipe: Recipe, *, trained: bool) -> int:
    """Bytes of an element of the shards: accelerate keeps what is trained in float32."""
    return DTYPE_BYTES[recipe.layout.master] if recipe.layout.master and trained else itemsize_bytes


def _gathered_itemsize(kept_bytes: int, recipe: Recipe) -> int:
    return DTYPE_BYTES[recipe.layout.gathered] if recipe.layout.gathered else kept_bytes


def _place(name: str, role: str, *, tied: bool) -> str:
    if "*" in name:
        return "layer"
    return "embedding" if role == "embedding" and not tied else "tail"


def _part_of(item: Placed, recipe: Recipe, layers: int) -> Part:
    count = ceil_div(item.count, layers)
    if item.quantized:
        # bitsandbytes packs two values a byte into a column of the storage dtype (functional.py quantize_4bit).
        storage = recipe.quantization.bnb_4bit_quant_storage if recipe.quantization else "uint8"
        each = DTYPE_BYTES[storage]
        shape = (ceil_div(item.group.params_each, 2 * each), 1)
        return Part(shape=shape, count=count, kept_bytes=each, gathered_bytes=each, trained=False)
    trained = recipe.lora is None
    kept = kept_itemsize(DTYPE_BYTES[item.dtypes[2]], recipe, trained=trained)
    gathered = _gathered_itemsize(kept, recipe)
    return Part(shape=item.group.shape, count=count, kept_bytes=kept, gathered_bytes=gathered, trained=trained)


def _adapter_part(tensor: Trainable, recipe: Recipe, layers: int) -> Part:
    kept = kept_itemsize(tensor.itemsize_bytes, recipe, trained=True)
    return Part(
        shape=tensor.shape, count=ceil_div(tensor.count, layers), kept_bytes=kept,
        gathered_bytes=_gathered_itemsize(kept, recipe), trained=True,
    )  # fmt: skip
