"""Which card accelerate's rules put each module on.

Written anew from transformers 5.23 integrations/accelerate.py: _get_device_map, get_balanced_memory,
infer_auto_device_map; accelerate 1.15 utils/modeling.py get_max_layer_size. "auto" and "balanced" are the same: as
much for each card as an equal share and a reserve of 1.25 times the largest layer come to, the last card taking what
is left; "sequential" fills each before the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.errors import FieldProblem, InvalidRequestError
from planner.parallel.device_map.modules import EMBEDDING, HEAD, NORM, ROTARY, Module, Modules
from planner.request.parallel import DeviceMap

# get_balanced_memory: what a card gets beside its share, in parts of the largest layer.
RESERVE = 1.25
# quantizers/quantizer_bnb_4bit.py and quantizer_bnb_8bit.py adjust_max_memory; get_balanced_memory of one card.
LEFT_FOR_BUFFERS = 0.9
HOST = -1


@dataclass(frozen=True, slots=True)
class Spread:
    """The card of each layer, and of what is outside the layers by its place; `HOST` where no card had room."""

    layers: tuple[int, ...]
    embedding: int
    norm: int
    rotary: int
    head: int

    @property
    def on_host(self) -> int:
        """Modules that no card has."""
        return self.modules_on(HOST)

    def of(self, place: str | int) -> int:
        """The card of a place."""
        card: int = self.layers[place] if isinstance(place, int) else getattr(self, place)
        return card

    def modules_on(self, card: int) -> int:
        """How many modules a card has."""
        return [*self.layers, self.embedding, self.norm, self.head].count(card)

    def layers_on(self, card: int) -> tuple[int, ...]:
        """Numbers of the layers that a card has."""
        return tuple(number for number, on in enumerate(self.layers) if on == card)


def spread_of(modules: Modules, options: DeviceMap, free_bytes: Sequence[float], *, quantized: bool) -> Spread:
    """Where each module goes. `free_bytes`: of each card, once its context is there; `quantized`: by bitsandbytes.

    Raises:
        InvalidRequestError: a map by hand leaves weights out, which accelerate refuses too (utils/modeling.py,
            check_device_map).
    """
    layers = next(child for child in modules.outermost[0].children if child.children).children
    if isinstance(options.placement, tuple):
        found = _as_written(modules, dict(options.placement))
    else:
        found = _inferred(modules, _room(modules, options, free_bytes, quantized=quantized))
    embedding = found.get(EMBEDDING, HOST)
    return Spread(
        layers=tuple(found[module.place] for module in layers), embedding=embedding,
        norm=found.get(NORM, found[layers[-1].place]), rotary=found.get(ROTARY, embedding),
        head=found.get(HEAD, embedding),
    )  # fmt: skip


def _room(modules: Modules, options: DeviceMap, free_bytes: Sequence[float], *, quantized: bool) -> dict[int, float]:
    """Bytes of weights that each card may take."""
    given = dict(options.max_memory) if options.max_memory is not None else None
    room = dict(enumerate(free_bytes)) if given is None else {card: float(size) for card, size in sorted(given.items())}
    usable = [card for card, size in room.items() if size > 0]
    if options.placement != "sequential" and usable:
        low_zero = options.placement == "balanced_low_0" and len(usable) > 1
        if len(usable) == 1 and given is None:
            room[usable[0]] *= LEFT_FOR_BUFFERS
        share = modules.total_bytes // (len(usable) - 1 if low_zero else len(usable))
        share += int(RESERVE * max(modules.largest_layer_bytes, modules.largest_leaf_bytes))
        for card in usable[:-1]:
            room[card] = min(room[0] if low_zero and card == 0 else share, room[card])
        if low_zero:
            others = sum(room[card] for card in range(1, len(usable)))
            room[0] = min(max(0.0, modules.total_bytes - others), room[0])
    return {card: size * LEFT_FOR_BUFFERS for card, size in room.items()} if quantized else room


@dataclass(slots=True)
class _Largest:
    """Room kept free on the first card for the largest layer that is still to be placed."""

    size_bytes: float = 0.0
    names: set[str] = field(default_factory=set)

    def look(self, modules: Iterable[Module]) -> None:
        """Find it among those that are left."""
        sizes = {leaf.name: leaf.size_bytes for module in modules for leaf in _uncut(module)}
        self.size_bytes = max(sizes.values(), default=0.0)
        self.names = {name for name, size in sizes.items() if size == self.size_bytes}


def _inferred(modules: Modules, room: Mapping[int, float]) -> dict[str | int, int]:
    waiting, found = list(modules.outermost), dict[str | int, int]()
    cards, used = iter([*room.items(), (HOST, float("inf"))]), 0.0
    (card, size_bytes), first = next(cards), True
    largest = _Largest()
    largest.look(waiting)
    while waiting:
        module = waiting.pop(0)
        largest.names = {name for name in largest.names if not f"{name}.".startswith(f"{module.name}.")}
        if not largest.names:
            largest.look(waiting)
        left_bytes = size_bytes - used - (largest.size_bytes if first else 0.0)
        if module.size_bytes <= left_bytes:
            used += module.size_bytes
            found |= {leaf.place: card for leaf in (*_uncut(module), *module.tied)}
        elif module.children:
            waiting = [*module.children, *waiting]
            largest.look(waiting)
        else:
            waiting = [module, *waiting]
            (card, size_bytes), used, first = next(cards), 0.0, False
    return found


def _as_written(modules: Modules, written: Mapping[str, int]) -> dict[str | int, int]:
    """An explicit map: the longest name that a module's begins with."""
    found: dict[str | int, int] = {}
    for module in (each for outer in modules.outermost for each in (*_uncut(outer), *outer.tied)):
        names = [name for name in written if not name or f"{module.name}.".startswith(f"{name}.")]
        if names:
            found[module.place] = written[max(names, key=len)]
    left_out = [
        leaf.name
        for outer in modules.outermost
        for leaf in _uncut(outer)
        if leaf.size_bytes and leaf.place != ROTARY and leaf.place not in found
    ]
    if left_out:
        named = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        fix = f'names no card for {named}; name each module, or write "" for all that is not named'
        raise InvalidRequestError("This map leaves weights out.", [FieldProblem("device_map", fix)])
    return found


def _uncut(module: Module) -> tuple[Module, ...]:
    """What no card shares: decoder layers, and modules without children."""
    return tuple(leaf for child in module.children for leaf in _uncut(child)) if module.children else (module,)
