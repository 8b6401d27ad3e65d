"""Tensors of the traced code, and how the memory is found in what it passes about: values, tuples, lists, records."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from planner.step.engine.buffers import Alias, Buffer
from planner.step.engine.gradients import Edge

Dims = tuple[str, ...]
_T = TypeVar("_T")


class Value(NamedTuple):
    """A tensor: memory (None: a parameter, which the static lines count), bytes per element, dims, gradient edge."""

    buffer: Buffer | None
    each: int
    dims: Dims
    edge: Edge | None = None


class Shelf:
    """Owns what is put on it until it is cleared: what outlives the function that made it."""

    __slots__ = ("_things",)

    def __init__(self) -> None:
        self._things: list[object] = []

    def put(self, thing: _T) -> _T:
        """Own all memory of `thing`, which comes back."""
        if isinstance(thing, tuple | list) and not isinstance(thing, Value):
            for each in thing:
                self.put(each)
        elif buffers := buffers_of(thing):
            for buffer in buffers:
                buffer.own()
            self._things.append(thing)
        return thing

    def refill(self, other: "Shelf") -> None:
        """Own what is on another shelf, in place of what was here."""
        before, self._things = self._things, []
        for thing in other:
            self.put(thing)
        for buffer in buffers_of(before):
            buffer.disown()

    def buffers(self) -> list[Buffer]:
        """What it owns."""
        return buffers_of(self._things)

    def values(self) -> Iterator[Value]:
        """The tensors among what it owns."""
        return (thing for thing in self._things if isinstance(thing, Value))

    def clear(self) -> None:
        """Disown all."""
        things, self._things = self._things, []
        for buffer in buffers_of(things):
            buffer.disown()

    def __iter__(self) -> Iterator[object]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


class SharedShelf(Shelf):
    """A shelf with owners of its own, counted as a buffer's are: the last of them clears it."""

    __slots__ = ("owners",)

    def __init__(self) -> None:
        super().__init__()
        self.owners = 0

    def own(self) -> None:
        """Count one owner more."""
        self.owners += 1

    def disown(self) -> None:
        """Count one owner less; with the last one all goes."""
        self.owners -= 1
        if not self.owners:
            self.clear()

    def free(self) -> None:
        """Clear what has no owner."""
        self.clear()


# How memory is found in a value of a class: not at all, in a Value, as itself, item by item, in what `owned()` names.
_NONE, _VALUE, _ITSELF, _ITEMS, _OWNED = range(5)
_how: dict[type, int] = {Value: _VALUE, Buffer: _ITSELF, Alias: _ITSELF, tuple: _ITEMS, list: _ITEMS}


def _learn(kind: type) -> int:
    how = _NONE
    if issubclass(kind, tuple | list):
        how = _ITEMS
    elif issubclass(kind, SharedShelf):
        how = _ITSELF
    elif hasattr(kind, "owned"):
        how = _OWNED
    _how[kind] = how
    return how


def may_own(kind: type) -> bool:
    """Whether memory may be found in values of this class."""
    how = _how.get(kind)
    return (_learn(kind) if how is None else how) != _NONE


def buffers_of(thing: object) -> list[Buffer]:
    """All memory of a value, of a tuple or list of values, or of a record that names by `owned()` what is in it."""
    if type(thing) is Value:
        return [] if thing.buffer is None else [thing.buffer]
    if type(thing) is Buffer:
        return [thing]
    found: list[Buffer] = []
    _find(thing, found)
    return found


def _find(thing: Any, found: list[Buffer]) -> None:
    kind = type(thing)
    how = _how.get(kind)
    if how is None:
        how = _learn(kind)
    if how == _VALUE:
        if thing.buffer is not None:
            found.append(thing.buffer)
    elif how == _ITSELF:
        found.append(thing)
    elif how != _NONE:
        for each in thing if how == _ITEMS else thing.owned():
            if type(each) is Value:
                if each.buffer is not None:
                    found.append(each.buffer)
            elif type(each) is not str:
                _find(each, found)
