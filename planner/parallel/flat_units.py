"""FSDP1's units: all parameters of one in a flat tensor, of which each card keeps a part.

torch 2.14, torch/distributed/fsdp/_flat_param.py. A layer is one, or, under peft's policy, each of its adapters and the
rest; all that is in no layer is the root's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.lazy_attribute import lazy_attribute
from planner.parallel.units import Part, Units
from planner.request.parallel import Fsdp
from planner.request.recipe import Recipe
from planner.tensors.trainable import Trainable
from planner.units import ceil_div


def is_played(recipe: Recipe) -> bool:
    """Whether a run's memory is played stream by stream: FSDP1 of one micro-batch a step.

    Left out are accumulated micro-batches, whose flat gradients stay, and what is trained beside frozen parameters of
    its unit: whole modules, adapters without units.
    """
    options, lora = recipe.strategy, recipe.lora
    if not isinstance(options, Fsdp) or options.version != 1 or not recipe.layout.shards:
        return False
    copies = lora is not None and bool(lora.modules_to_save or lora.trainable_token_indices)
    return not (recipe.accumulates or copies or (lora is not None and not options.auto_wrap))


@dataclass(frozen=True)
class FlatUnit:
    """One flat parameter in `shards` parts; torch refuses parts of two dtypes."""

    parts: tuple[Part, ...]
    shards: int
    made_bytes: int

    @lazy_attribute
    def shard_elements(self) -> int:
        """Elements of each card's part; the last is padded."""
        return ceil_div(sum(part.elements * part.count for part in self.parts), self.shards)

    @property
    def each(self) -> Iterator[int]:
        """Bytes of its parameters as they are made, one after the other."""
        for part in self.parts:
            yield from [part.elements * self.made_bytes] * part.count

    @lazy_attribute
    def kept_bytes(self) -> int:
        """Bytes of an element of the shard."""
        return max(part.kept_bytes for part in self.parts)

    @lazy_attribute
    def gathered_bytes(self) -> int:
        """Bytes of an element of the whole."""
        return max(part.gathered_bytes for part in self.parts)

    @lazy_attribute
    def trained(self) -> bool:
        """Whether it has a gradient."""
        return any(part.trained for part in self.parts)

    @lazy_attribute
    def narrows(self) -> bool:
        """Whether a shard in another dtype is made to be gathered."""
        return self.kept_bytes != self.gathered_bytes

    def of_first_card(self, layers: int, name: str) -> Iterator[Trainable]:
        """What the optimizer of the first card finds: parameters, and the part of the one that is cut."""
        left = self.shard_elements
        for number, part in enumerate(self.parts):
            whole = min(part.count, left // part.elements)
            cut = min(part.elements, left - whole * part.elements) if whole < part.count else 0
            left -= whole * part.elements + cut
            for copy, elements in enumerate([part.elements] * whole + [cut] * bool(cut)):
                own = f"{name}.{number}.{copy}"
                yield Trainable(name=own, shape=(elements,), count=layers, itemsize_bytes=self.kept_bytes)


@dataclass(frozen=True, slots=True)
class FlatUnits:
    """A model in flat parameters: what one layer's adapters are, one after the other, its rest, and the root.

    `tied_bytes`: of the gradient of an embedding that is the output head, too, where it is trained.
    """

    adapters: tuple[FlatUnit, ...]
    layer: FlatUnit
    root: FlatUnit
    layers: int
    tied_bytes: int = 0

    @classmethod
    def of(cls, units: Units, shards: int, *, model_bytes: int, tied_elements: int) -> "FlatUnits":
        """`model_bytes`: of an element as the model is loaded. `tied_elements`: of an embedding that is the head."""
        frozen = tuple(part for part in units.layer.parts if not part.trained)
        trained = tuple(part for part in units.layer.parts if part.trained)
        adapters = [FlatUnit((part,), shards, part.kept_bytes) for part in trained if frozen]
        layer = FlatUnit(frozen or trained, shards, model_bytes)
        root = FlatUnit((*units.embedding.parts, *units.tail.parts), shards, model_bytes)
        layers = units.layers if layer.parts else 0
        return cls(tuple(adapters), layer, root, layers, tied_elements * root.gathered_bytes * root.trained)

    def trained_on_first_card(self) -> tuple[Trainable, ...]:
        """What its optimizer updates there."""
        found = [unit.of_first_card(1, "root") for unit in (self.root,) if unit.trained]
        in_layers = [unit for unit in (*self.adapters, self.layer) if self.layers and unit.trained]
        found += [unit.of_first_card(self.layers, f"layers.*.{number}") for number, unit in enumerate(in_layers)]
        return tuple(tensor for each in found for tensor in each)
