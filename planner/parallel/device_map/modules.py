"""A model's modules in the order in which they are defined, with the bytes that transformers counts of each.

transformers 5.23 integrations/accelerate.py compute_module_sizes: elements times what an element will take once it is
loaded, half a byte in 4 bit and one in 8 (quantizers/base.py param_element_size); no statistics of quantization, no
rounding, tied weights once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.tensors.tensor_storage import Placed

EMBEDDING, NORM, ROTARY, HEAD = "embedding", "norm", "rotary", "head"


@dataclass(frozen=True, slots=True)
class Module:
    """One module; `layer` is a decoder layer's number. Without `children` it is never cut in two.

    `place`: what of the model it is, for callers that ask where that lies. `tied`: modules that go where it goes.
    """

    name: str
    size_bytes: float
    place: str | int
    children: tuple["Module", ...] = ()
    tied: tuple["Module", ...] = ()


@dataclass(frozen=True, slots=True)
class Modules:
    """The outermost modules, all bytes together, and those of the largest module that holds tensors of its own."""

    outermost: tuple[Module, ...]
    total_bytes: float
    largest_leaf_bytes: float
    largest_layer_bytes: float


@dataclass(slots=True)
class _Sizes:
    layers: list[float]
    outside: dict[str, float] = field(default_factory=dict)
    leaves: dict[str, float] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)


def modules_of(placed: Sequence[Placed], recipe: Recipe, layers: int) -> Modules:
    """The modules of a model of so many layers. Its output head, where it is no tensor of its own, is the embedding."""
    sizes = _Sizes([0.0] * layers)
    stack = "model.layers"
    # Rotary frequencies hang on a module that is defined after the norm, and before the head.
    for item in sorted(placed, key=lambda each: (each.group.role == "head", each.group.role == "buffer")):
        name, size_bytes = item.group.name, counted_bytes(item, recipe)
        parent = name.rpartition(".")[0]
        if item.count:
            sizes.leaves[parent] = sizes.leaves.get(parent, 0) + size_bytes
        if "*" in name:
            stack = name.split(".*")[0]
            for number in layers_with(item, layers):
                sizes.layers[number] += size_bytes * item.count / len(layers_with(item, layers))
        else:
            sizes.outside[parent] = sizes.outside.get(parent, 0) + size_bytes * item.count
            sizes.roles.setdefault(parent, item.group.role)
    return _in_order(sizes, stack)


def counted_bytes(item: Placed, recipe: Recipe) -> float:
    """What transformers counts of one tensor of the group."""
    if item.quantized:
        return item.group.params_each * (0.5 if recipe.quantization and recipe.quantization.load_in_4bit else 1.0)
    return item.group.params_each * DTYPE_BYTES[item.dtypes[0]]


def layers_with(item: Placed, layers: int) -> Sequence[int]:
    """The layers that have the tensor; all if it is not known which."""
    return item.group.layers or range(layers)


def _in_order(sizes: _Sizes, stack: str) -> Modules:
    numbered = tuple(Module(f"{stack}.{number}", size, number) for number, size in enumerate(sizes.layers))
    decoder = Module(stack, sum(sizes.layers), "layers", numbered)
    places = {name: place_of(name, sizes.roles[name]) for name in sizes.outside}
    outside = [Module(name, size, places[name]) for name, size in sizes.outside.items()]
    head = next((module for module in outside if module.place == HEAD), None)
    if head is None:
        named = (Module("lm_head", 0.0, HEAD),)
        outside = [Module(m.name, m.size_bytes, m.place, (), named if m.place == EMBEDDING else ()) for m in outside]
    before = [module for module in outside if module.place == EMBEDDING]
    after = [module for module in outside if module.place in {NORM, ROTARY}]
    inner = (*before, decoder, *after)
    root = stack.split(".", maxsplit=1)[0]
    tied = tuple(other for module in before for other in module.tied)
    body = Module(root, sum(module.size_bytes for module in inner), "decoder", inner, tied)
    total_bytes = body.size_bytes + (head.size_bytes if head else 0.0)
    largest_leaf = max(sizes.leaves.values(), default=0.0)
    return Modules((body, head) if head else (body,), total_bytes, largest_leaf, max(sizes.layers, default=0.0))


def place_of(name: str, role: str) -> str:
    """What of the model a tensor outside the layers belongs to; a tower goes where the embedding does."""
    if role in {"embedding", "tower"} or (role == "buffer" and "embed" in name):
        return EMBEDDING
    return HEAD if role == "head" else ROTARY if role == "buffer" else NORM
